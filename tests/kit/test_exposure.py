"""Whether a file lies open to everybody: its own rights, and those of the folders before it."""

import pytest

from ringback.kit.exposure import open_to_all


@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "found"),
    [(0o644, 0o755, True), (0o604, 0o711, True), (0o640, 0o755, False), (0o600, 0o755, False), (0o644, 0o750, False)],
)
def test_others_rights_count_on_the_whole_way(open_folder, file_mode, folder_mode, found):
    """Open is what others may read and reach; the group's rights are its owner's affair."""
    folder = open_folder / "secrets"
    folder.mkdir()
    (folder / "crm").write_text("s")
    (folder / "crm").chmod(file_mode)
    folder.chmod(folder_mode)
    assert open_to_all(folder / "crm") is found


def test_a_link_is_as_open_as_what_it_names(open_folder, tmp_path):
    """Whoever hides the link hides nothing."""
    (open_folder / "crm").write_text("s")
    (open_folder / "crm").chmod(0o644)
    tmp_path.chmod(0o700)
    (tmp_path / "link").symlink_to(open_folder / "crm")
    assert open_to_all(tmp_path / "link")


def test_what_is_not_there_is_not_open(open_folder):
    """Nor is a chain of links without end."""
    (open_folder / "loop").symlink_to("loop")
    assert not open_to_all(open_folder / "none")
    assert not open_to_all(open_folder / "loop")

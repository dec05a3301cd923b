"""The demo's look over its own files."""

from ringback.cli.demo.peek import readable


def test_a_word_is_found_wherever_it_stands(tmp_path):
    """In any file at any depth, as its UTF-8 bytes; nothing is no word."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.db").write_bytes("\0Größl\0".encode())
    (tmp_path / "b").write_bytes(b"\xffwhsec_abc")
    assert readable(tmp_path, ["Größl", "whsec_abc", "nowhere", ""]) == {"Größl", "whsec_abc"}

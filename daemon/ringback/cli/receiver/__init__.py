"""The receiver's side: judging what was received and answering challenges, with code of its own.

Rules: nothing here shares code with what signs; a bug in one must not be mended by the same bug in the other.
"""

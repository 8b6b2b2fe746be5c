"""As in the tests of learning: one thread."""

from tests.learning.conftest import one_thread as one_thread

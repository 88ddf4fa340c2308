"""Every exception the project raises on purpose, under one base class."""

from __future__ import annotations

from collections.abc import Collection


class DdfaError(Exception):
    """A fault a user can act on: one sentence that names the file and what to do."""


class BundleError(DdfaError):
    """A model bundle, or a file one is made from, is missing, truncated, altered or not understood."""


class UnsafeFileError(BundleError):
    """A pickle or checkpoint asks for something other than plain arrays, and was not executed."""


class InputError(DdfaError):
    """The list of inputs as a whole cannot be used: no such folder, no images, no path column."""


class OptionError(DdfaError, ValueError):
    """An option has a value that it cannot have, or excludes another one."""


class RunFolderError(DdfaError):
    """The output folder does not fit what was asked: another run, other options, a damaged file."""


class FilesGoneError(RunFolderError):
    """Files that a run wrote are gone: somebody removes them."""


class ClusterError(DdfaError):
    """The Dask cluster cannot be reached, or gave up on work it was handed."""


class MissingPackageError(DdfaError, ImportError):
    """What was asked for needs a package that is not installed; the sentence names the extra that brings it."""


class StoreError(DdfaError, OSError):
    """A store behind a URL did not do what it was asked, in all of its attempts."""


class ShapeError(DdfaError, ValueError):
    """An array does not have the shape its user relies on."""


class TrainingError(DdfaError):
    """A training cannot go on: it diverged, or its checkpoint belongs to another one."""


class ImageError(DdfaError):
    """One image cannot be used. It becomes a row of the images table, never the end of a run."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        """Pickle with both arguments, which `Exception` alone would not."""
        return ImageError, (self.kind, self.message)


#: Every `error_kind` an images table may hold, with what it means.
ERROR_KINDS: dict[str, str] = {
    "missing": "the file does not exist",
    "unreadable": "the file exists but cannot be read (permission, a folder, an I/O error)",
    "empty": "the file has no bytes",
    "not_an_image": "the bytes are not those of a supported image format",
    "format_not_allowed": "the picture's format is none of --formats",
    "not_a_video": "the bytes are not those of a supported video format",
    "no_frames": "the file has no video stream, or no frame in it",
    "truncated": "the file ends before the picture does",
    "too_large": "the picture has more pixels, or the file more bytes, than the limits allow",
    "undecodable": "the format is known but the decoder gave up",
    "no_params": "the parameters given have no face of this image, or put none into it",
    "timed_out": "it took longer than --item-timeout",
    "out_of_memory": "it took more memory than --memory-limit, or than the system gave",
    "crashed": "its decoder's process died of it, or its worker did twice",
    "failed": "an unexpected error while this image was processed; the message names it",
}
#: What stands for every kind.
ALL_KINDS = "all"


def checked_kinds(kinds: Collection[str]) -> frozenset[str]:
    """Kinds of error rows; raises `OptionError` for one that there is not."""
    for kind in kinds:
        if kind not in ERROR_KINDS:
            known = ", ".join(ERROR_KINDS)
            raise OptionError(f"'{kind}' is no kind of error; give {ALL_KINDS}, or some of {known}.")
    return frozenset(kinds)

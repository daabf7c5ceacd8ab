"""Writes real DICOM files. Their patients are invented."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset

STUDY = "1.2.826.0.1.3680043.8.498.77777777777777777777"
SERIES = "1.2.826.0.1.3680043.8.498.88888888888888888888"
INSTANCE = "1.2.826.0.1.3680043.8.498.99999999999999999999"
PATIENT = "Testmann^Irmgard"
SECRETS = (STUDY, SERIES, INSTANCE, "Testmann", "Irmgard", "PID-4711", "ACC-0815", "Klinik-Nord")

EXPLICIT = "1.2.840.10008.1.2.1"
REGION = {
    "RegionSpatialFormat": 1,
    "RegionDataType": 1,
    "RegionFlags": 0,
    "PhysicalUnitsXDirection": 3,
    "PhysicalUnitsYDirection": 3,
    "RegionLocationMinX0": 4,
    "RegionLocationMinY0": 2,
    "RegionLocationMaxX1": 27,
    "RegionLocationMaxY1": 21,
    "PhysicalDeltaX": 0.05,
    "PhysicalDeltaY": 0.04,
}


def shipped(name: str) -> Path:
    """A file of pydicom's wheel."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"{name} is not in this pydicom"
    return Path(path)


def moving(frames: int = 5, size: tuple[int, int] = (32, 24)) -> NDArray[np.uint8]:
    """frames x H x W x 3 RGB, each frame another; a red block walks over green and blue ramps."""
    width, height = size
    clip = np.zeros((frames, height, width, 3), np.uint8)
    clip[..., 1] = np.linspace(0, 200, width, dtype=np.uint8)
    clip[..., 2] = np.linspace(0, 200, height, dtype=np.uint8)[:, None]
    for number in range(frames):
        clip[number, 4:12, number : number + 8, 0] = 250
    return clip


def regions(*changes: dict[str, Any]) -> list[Dataset]:
    items = []
    for change in changes:
        item = Dataset()
        for keyword, value in {**REGION, **change}.items():
            setattr(item, keyword, value)
        items.append(item)
    return items


def dataset(pixels: NDArray[Any], syntax: str, **elements: Any) -> Dataset:
    """A multi-frame data set of F x H x W (x 3) pixels, uncompressed so far."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.UID(syntax)
    made.file_meta.MediaStorageSOPClassUID = uid.UltrasoundMultiFrameImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = uid.UID(INSTANCE)
    made.SOPClassUID = uid.UltrasoundMultiFrameImageStorage
    made.SOPInstanceUID = uid.UID(INSTANCE)
    made.StudyInstanceUID, made.SeriesInstanceUID = STUDY, SERIES
    made.PatientName, made.PatientID = PATIENT, "PID-4711"
    made.AccessionNumber, made.InstitutionName = "ACC-0815", "Klinik-Nord"
    is_colour = pixels.ndim == 4
    bits = pixels.dtype.itemsize * 8
    made.NumberOfFrames, made.Rows, made.Columns = pixels.shape[:3]
    made.SamplesPerPixel = 3 if is_colour else 1
    made.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit = (elements.get("BitsStored") or bits) - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.FrameTime = 40.0
    data = pixels.tobytes()
    made.add_new("PixelData", "OB" if bits == 8 else "OW", data + b"\0" * (len(data) % 2))
    for keyword, value in elements.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def write(
    path: Path,
    pixels: NDArray[Any],
    *,
    syntax: str = EXPLICIT,
    **elements: Any,
) -> Path:
    """elements: keywords that are set, or with None taken out."""
    made = dataset(pixels, syntax if not uid.UID(syntax).is_compressed else EXPLICIT, **elements)
    if syntax == uid.RLELossless:
        made.compress(uid.RLELossless, generate_instance_uid=False)
    elif syntax != made.file_meta.TransferSyntaxUID:
        made.file_meta.TransferSyntaxUID = uid.UID(syntax)
        made["PixelData"].VR = "OB"
        made.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 no such image \xff\xd9"])
        made["PixelData"].is_undefined_length = True
    made.save_as(path, enforce_file_format=True)
    return path


def write_raw(
    path: Path,
    pixels: bytes | list[bytes],
    *,
    size: tuple[int, int],
    syntax: str = EXPLICIT,
    table: list[int] | None = None,
    **elements: Any,
) -> Path:
    """pixels: an uncompressed element, or the fragments of a compressed one.

    size: width x height. table: the fragments that the basic offset table says images begin with.
    """
    made = dataset(np.zeros((1, size[1], size[0]), np.uint8), EXPLICIT, NumberOfFrames=None)
    made.file_meta.TransferSyntaxUID = uid.UID(syntax)
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    if isinstance(pixels, bytes):
        made["PixelData"].VR = "OW" if made.BitsAllocated > 8 else "OB"
        made.PixelData = pixels
    else:
        made.PixelData = encapsulated(pixels, table or [])
        made["PixelData"].is_undefined_length = True
    made.save_as(path, enforce_file_format=True)
    return path


def encapsulated(fragments: list[bytes], table: list[int]) -> bytes:
    """The value of a compressed PixelData, without its delimiter."""
    places = np.cumsum([0, *(8 + len(fragment) for fragment in fragments)]).tolist()
    offsets = b"".join(struct.pack("<L", places[number]) for number in table)
    items = [struct.pack("<HHL", 0xFFFE, 0xE000, len(one)) + one for one in (offsets, *fragments)]
    return b"".join(items)

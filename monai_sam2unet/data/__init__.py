# SPDX-License-Identifier: Apache-2.0
"""Lists of files: finding, pairing, checking; and phantoms to try things on."""

from monai_sam2unet.data.case_names import case_name
from monai_sam2unet.data.datalist_file import is_datalist, read_datalist
from monai_sam2unet.data.find_volumes import recognise_volumes
from monai_sam2unet.data.image_check import check_mask_threshold, check_pairs, split_readable
from monai_sam2unet.data.image_sets import (
    IMAGE_SUFFIXES,
    files_by_stem,
    find_sets,
    given_sets,
    list_images,
    match_by_stem,
    other_files,
    pair_by_stem,
    read_split,
    stem_below,
)
from monai_sam2unet.data.phantoms import make_polyp_phantom, write_polyp_phantoms
from monai_sam2unet.data.picture_layouts import PICTURE_LAYOUTS, PictureLayout, RecognisedPictures, recognise_pictures
from monai_sam2unet.data.picture_modes import PICTURES, to_gray, to_rgb, to_shown
from monai_sam2unet.data.training_cases import TrainingCases, case_digests, case_sha256
from monai_sam2unet.data.volume_layouts import VOLUME_LAYOUTS, RecognisedVolumes, VolumeLayout

__all__ = [
    "IMAGE_SUFFIXES",
    "PICTURES",
    "PICTURE_LAYOUTS",
    "VOLUME_LAYOUTS",
    "PictureLayout",
    "RecognisedPictures",
    "RecognisedVolumes",
    "TrainingCases",
    "VolumeLayout",
    "case_digests",
    "case_name",
    "case_sha256",
    "check_mask_threshold",
    "check_pairs",
    "files_by_stem",
    "find_sets",
    "given_sets",
    "is_datalist",
    "list_images",
    "make_polyp_phantom",
    "match_by_stem",
    "other_files",
    "pair_by_stem",
    "read_datalist",
    "read_split",
    "recognise_pictures",
    "recognise_volumes",
    "split_readable",
    "stem_below",
    "to_gray",
    "to_rgb",
    "to_shown",
    "write_polyp_phantoms",
]

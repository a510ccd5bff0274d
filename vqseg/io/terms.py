"""Coded terms (SNOMED CT) for structures that go by a common name, as DICOM SEG asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

__all__ = ["Term", "term_for"]

ANATOMY = {
    "adrenal gland": "AdrenalGland", "aorta": "Aorta", "bladder": "Bladder", "urinary bladder": "Bladder",
    "bone": "Bone", "brachiocephalic vein": "BrachiocephalicVein", "brain": "Brain", "bronchus": "Bronchus",
    "clavicle": "Clavicle", "clavicula": "Clavicle", "colon": "Colon", "duodenum": "Duodenum", "esophagus": "Esophagus",
    "oesophagus": "Esophagus", "face": "Face", "femur": "Femur", "gall bladder": "Gallbladder",
    "gallbladder": "Gallbladder", "heart": "Heart", "hip": "Hip", "humerus": "Humerus",
    "iliac artery": "CommonIliacArtery", "iliac artera": "CommonIliacArtery",
    "iliac vena": "CommonIliacVein", "iliac vein": "CommonIliacVein", "inferior vena cava": "InferiorVenaCava",
    "ivc": "InferiorVenaCava", "kidney": "Kidney", "left atrium": "LeftAtrium", "left ventricle": "LeftVentricle",
    "liver": "Liver", "lung": "Lung", "lung lower lobe": "LowerLobeOfLung", "lung middle lobe": "MiddleLobeOfRightLung",
    "lung upper lobe": "UpperLobeOfLung", "lymph node": "LymphNode", "muscle": "Muscle",
    "myocardium": "LeftVentricleMyocardium", "pancreas": "Pancreas", "parotid gland": "ParotidGland",
    "portal vein": "PortalVein", "prostate": "Prostate", "pulmonary artery": "PulmonaryArtery",
    "pulmonary vein": "PulmonaryVein", "rectum": "Rectum", "rib": "Rib", "right atrium": "RightAtrium",
    "right ventricle": "RightVentricle", "sacrum": "Sacrum", "scapula": "Scapula", "skin": "Skin",
    "small bowel": "SmallIntestine", "small intestine": "SmallIntestine", "spinal cord": "SpinalCord", "spine": "Spine",
    "spleen": "Spleen", "sternum": "Sternum", "stomach": "Stomach", "submandibular gland": "SubmandibularGland",
    "superior vena cava": "SuperiorVenaCava", "svc": "SuperiorVenaCava", "thyroid": "Thyroid",
    "thyroid gland": "Thyroid", "trachea": "Trachea", "ureter": "Ureter", "uterus": "Uterus", "vertebra": "Vertebra",
    "vertebrae": "Vertebra",
}  # fmt: skip
"""Normal structures by name, and their keyword in the DICOM standard's list of SNOMED CT terms."""

ABNORMAL = {
    "cyst": "Cyst", "edema": "Edema", "gtv": "Neoplasm", "haematoma": "Hematoma", "hematoma": "Hematoma",
    "lesion": "Lesion", "mass": "Mass", "metastasis": "Metastasis", "necrosis": "Necrosis", "neoplasm": "Neoplasm",
    "nodule": "Nodule", "lung nodule": "Nodule", "lung tumor": "Neoplasm", "lung tumour": "Neoplasm",
    "oedema": "Edema", "tumor": "Neoplasm", "tumour": "Neoplasm",
}  # fmt: skip
"""What is there because of a disease."""

SIDES = {"left": "Left", "l": "Left", "lt": "Left", "right": "Right", "r": "Right", "rt": "Right"}


@dataclass(frozen=True)
class Term:
    """What a structure is, in codes.

    Parameters
    ----------
    category, kind : Code
        Segmented property category (anatomical, abnormal, tissue) and type.
    side : Code or None
        Left or right.
    """

    category: Code
    kind: Code
    side: Code | None = None


def term_for(name: str) -> Term:
    """The term of a structure's name, "Tissue" where the name is not a common one.

    The side may stand before or after the name ("left lung", "kidney_right", "LUNG_L"), and numbers are left out.
    """
    words = [word for word in re.findall(r"[a-z0-9]+", name.lower()) if not word.isdigit()]
    sides = {SIDES[word] for word in words if word in SIDES}
    side = getattr(codes.SCT, sides.pop()) if len(sides) == 1 else None
    plain = " ".join(word for word in words if word not in SIDES)
    for text, found_side in ((" ".join(words), None), (plain, side), (plain.removesuffix("s"), side)):
        if text in ANATOMY:
            return Term(codes.CID7150.AnatomicalStructure, getattr(codes.SCT, ANATOMY[text]), found_side)
        if text in ABNORMAL:
            return Term(codes.CID7150.MorphologicallyAbnormalStructure, getattr(codes.SCT, ABNORMAL[text]), found_side)
    return Term(codes.CID7150.Tissue, codes.SCT.Tissue)

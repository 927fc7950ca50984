# SPDX-License-Identifier: Apache-2.0
"""The tissue in front of the phantoms' camera: polyps, folds around the lumen, colour and light.

A scene is albedo times light: a wall whose folds ring the lumen, domes (polyps, stalks, harmless bulges) as a height
map lit from near the camera, and what lies on top. Units and shapes are those of ``phantom_camera``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from monai_sam2unet.data.phantom_camera import FloatArray, Frame, Point, blurred

__all__ = ["render_scene"]

_MUCOSA = np.array([[0.95, 0.42, 0.26], [0.92, 0.38, 0.30], [1.00, 0.46, 0.18], [0.78, 0.50, 0.36]], np.float32)
_POLYP_TINTS = np.array([[1.10, 0.74, 0.76], [1.12, 1.08, 1.12], [1.00, 0.84, 0.72], [1.12, 0.88, 0.92]], np.float32)
_RESIDUE = np.array([0.90, 0.54, 0.13], np.float32)
# Tissue takes green and blue from every bounce, so what gets little light looks redder.
_LIGHT_EXPONENTS = np.array([0.90, 1.06, 1.12], np.float32)


@dataclass
class _Domes:
    """Height of what stands out from the wall; coverage in [0, 1] by ``front`` (polyps and stalks) and ``polyp``."""

    height: FloatArray
    front: FloatArray
    polyp: FloatArray


def _mix(below: FloatArray, above: FloatArray | float, alpha: FloatArray) -> FloatArray:
    return below + (above - below) * alpha


def _polyp_sites(frame: Frame) -> list[tuple[Point, float]]:
    """Centres and radii of one to three polyps, on one side of the frame so that the lumen has the other.

    The first covers 1.6-28 % of the frame and the others 1.2-3 % each, so 34 % at most together; the centres lie
    inside every field of view, so that at least 1 % stays in sight.
    """
    rng, (half_u, half_v) = frame.rng, frame.half
    side, sites = rng.uniform(0, 2 * math.pi), []
    for index in range(rng.choice(3, p=[0.72, 0.2, 0.08]) + 1):
        share = frame.log_uniform(0.012, 0.03) if index else frame.log_uniform(0.016, 0.28)
        angle = side + (0, 1, -1)[index] * rng.uniform(0.8, 1.5)
        reach = rng.uniform(0.1, 0.62)
        centre = (half_u * reach * math.cos(angle), half_v * reach * math.sin(angle))
        sites.append((centre, math.sqrt(share * 4 * half_u * half_v / math.pi)))
    return sites


def _outline_distance(frame: Frame, centre: Point, radius: float) -> FloatArray:
    """Distance from the centre relative to an irregular ellipse, below 1 inside, with the area of the disc."""
    rng = frame.rng
    tilt, aspect = rng.uniform(0, math.pi), math.sqrt(rng.uniform(1.0, 1.7))
    u, v = frame.u - centre[0], frame.v - centre[1]
    along = (u * math.cos(tilt) + v * math.sin(tilt)) / aspect
    across = (v * math.cos(tilt) - u * math.sin(tilt)) * aspect
    angle = np.arctan2(across, along)
    weights = rng.uniform(0, 0.4, size=7) / np.arange(2, 9) ** 1.6
    waves = sum(w * np.cos(k * angle + rng.uniform(0, 6.3)) for k, w in enumerate(weights.tolist(), 2))
    growth = math.sqrt(1 + float(np.square(weights).sum()) / 2)  # the mean of (1 + waves)^2 is what the area grows by
    return np.asarray(np.hypot(along, across) * growth / (radius * (1 + waves)), np.float32)


def _add_dome(domes: _Domes, frame: Frame, distance: FloatArray, radius: float, rise: float | FloatArray) -> FloatArray:
    """Raise a dome of height ``rise`` where distance < 1 and return its coverage, with an edge of one pixel."""
    profile = np.clip(1 - np.square(distance), 0, 1) ** frame.rng.uniform(0.6, 1.2)
    coverage: FloatArray = np.clip((1 - distance) * radius * frame.scale + 0.5, 0, 1)
    # Polyps merge where they meet, but a head hides its stalk.
    domes.height = _mix(domes.height, np.maximum(rise * profile, domes.height * domes.polyp), coverage)
    domes.front = np.maximum(domes.front, coverage)
    return coverage


def _add_stalk(domes: _Domes, frame: Frame, centre: Point, radius: float) -> None:
    """A cylinder of plain mucosa from under the head outwards. Not labelled: the lesion is the head."""
    rng = frame.rng
    angle, girth = rng.uniform(0, 2 * math.pi), radius * rng.uniform(0.3, 0.45)
    u, v = frame.u - centre[0], frame.v - centre[1]
    along = u * math.cos(angle) + v * math.sin(angle)
    across = v * math.cos(angle) - u * math.sin(angle) - rng.uniform(-0.3, 0.3) * np.square(along) / radius
    beyond = np.maximum(along - radius * rng.uniform(1.2, 1.9), 0) + np.maximum(-along, 0)
    _add_dome(domes, frame, np.hypot(across, beyond) / girth, girth, girth * 0.5)


def _make_domes(frame: Frame, sites: list[tuple[Point, float]]) -> _Domes:
    bulges = 0.035 * frame.noise(4) + 0.004 * frame.noise(11) + 0.0008 * frame.noise(30)
    domes = _Domes(*np.zeros((3, *bulges.shape), np.float32))
    for centre, radius in sites:
        if frame.rng.random() < 0.25:
            _add_stalk(domes, frame, centre, radius)
        distance = _outline_distance(frame, centre, radius)
        rise = radius * (frame.rng.uniform(0.2, 0.6) + 0.05 * frame.noise(1.5 / radius))
        coverage = _add_dome(domes, frame, distance, radius, rise)
        domes.polyp = np.maximum(domes.polyp, coverage)
    domes.height += bulges
    return domes


def _wall_light(frame: Frame, polyp: Point) -> tuple[FloatArray, FloatArray]:
    """Light on the wall by its depth, and the factor by which folds change it; the lumen lies away from ``polyp``."""
    rng, (half_u, half_v) = frame.rng, frame.half
    away = math.atan2(polyp[1], polyp[0]) + math.pi + rng.normal(0, 0.35)
    reach = rng.uniform(0.45, 1.35)
    u = frame.u - half_u * reach * math.cos(away) + 0.06 * frame.noise(2.5)
    v = frame.v - half_v * reach * math.sin(away) + 0.06 * frame.noise(2.5)
    stretch = rng.uniform(0.75, 1.3)
    # Three bands of muscle run along the colon, which makes its cross-section a rounded triangle.
    corners = 1 + rng.uniform(0, 0.16) * np.cos(3 * np.arctan2(v, u) + rng.uniform(0, 6.3))
    depth = np.hypot(u * stretch, v / stretch) * corners + 0.01
    light = 0.04 + 0.85 * depth**2 / (depth**2 + rng.uniform(0.12, 0.4) ** 2) + rng.uniform(0.1, 0.6) * depth**2
    pace = rng.uniform(0.9, 2.0)
    phase = pace * np.log(depth) + rng.uniform(0, 1) + 0.14 * frame.noise(3)
    # From one fold's crest outwards to where the next, nearer fold hides the wall, it gets darker.
    turn = phase - np.floor(phase)
    strength = rng.uniform(0.4, 1.1) * np.clip(0.55 + 0.6 * frame.noise(2.5), 0, 1)
    # The last pixel of a turn leads over to the next crest, or the crest would look jagged.
    lead = np.clip(1 - (1 - turn) * depth * frame.scale / pace, 0, 1)
    shade = _mix(0.6 * np.exp(-9 * turn) - 0.85 * turn**4, 0.6, lead)
    return light, np.clip(1 + strength * shade, 0.12, 1.7)


def _facing(frame: Frame, height: FloatArray, lamp: Point, rise: float) -> FloatArray:
    """Cosine between the surface's normal and the direction to a lamp ``rise`` above the frame."""
    down, right = np.gradient(height, 1 / frame.scale)
    to_u, to_v = lamp[0] - frame.u, lamp[1] - frame.v
    lengths = np.sqrt((right**2 + down**2 + 1) * (to_u**2 + to_v**2 + rise**2))
    return np.asarray((rise - right * to_u - down * to_v) / lengths, np.float32)


def _shadow(frame: Frame, domes: _Domes, lamp: Point, site: tuple[Point, float]) -> FloatArray:
    """Soft shadow in [0, 1] of what stands out: close around its rim, and longer on the side away from the lamp."""
    centre, radius = site
    pixels = radius * frame.scale
    away = math.atan2(centre[1] - lamp[1], centre[0] - lamp[0])
    shifted = (1, 0, -0.25 * pixels * math.cos(away), 0, 1, -0.25 * pixels * math.sin(away))
    front = Image.fromarray(domes.front)
    cast = blurred(np.asarray(front.transform(front.size, Image.Transform.AFFINE, shifted)), 0.16 * pixels)
    return (0.5 * cast + 0.1 * blurred(domes.front, 0.05 * pixels)) * (1 - domes.front)


def _lit(frame: Frame, domes: _Domes, site: tuple[Point, float]) -> tuple[FloatArray, FloatArray]:
    """All light that the tissue scatters, about 0 to 2, and the specular highlights in [0, 1]."""
    rng = frame.rng
    lamp, rise = (rng.normal(0, 0.12), rng.normal(0, 0.12)), rng.uniform(0.5, 0.9)
    wall, folds = _wall_light(frame, site[0])
    u, v = frame.u, frame.v
    near = wall[np.hypot(u - site[0][0], v - site[0][1]) < site[1]].mean()
    # What stands out hides the folds behind it and is about as near to the lamp everywhere.
    light = _mix(wall * folds, 0.4 * wall + 0.65 * near, domes.front)
    facing = _facing(frame, domes.height, lamp, rise)
    flat = rise / np.sqrt((u - lamp[0]) ** 2 + (v - lamp[1]) ** 2 + rise**2)
    shaded = light * (0.4 + 0.6 * np.clip(facing / flat, 0.1, 1.5)) * (1 - _shadow(frame, domes, lamp, site))
    # Mucus ripples finer than the tissue, so highlights break into clusters, and only where it is wet.
    rippled = _facing(frame, domes.height + 0.004 * frame.noise(22) + 0.0012 * frame.noise(64), lamp, rise)
    wet = np.clip(0.3 + 0.6 * frame.noise(5) + 0.4 * domes.front, 0, 1)
    gloss = np.clip((rippled - rng.uniform(0.974, 0.99)) * 90, 0, 1) * wet * np.clip(light * 1.5, 0, 1)
    return shaded * np.clip(1.1 - 0.5 * (u**2 + v**2), 0.3, 1), np.clip(gloss * 1.6 - 0.4, 0, 1)


def _vessels(frame: Frame) -> FloatArray:
    """Branching lines in [0, 1], thinner with every step and branch."""
    rng, (height, width) = frame.rng, frame.u.shape
    image = Image.new("L", (width, height))
    draw, step = ImageDraw.Draw(image), 0.03 * frame.scale
    starts = rng.uniform(0, (width, height, 2 * math.pi), (rng.integers(4, 13), 3)).tolist()
    tips = [(x, y, angle, 2.6) for x, y, angle in starts]
    while tips:
        x, y, angle, girth = tips.pop()
        while girth > 0.9:
            angle, girth = angle + rng.normal(0, 0.22), girth * 0.97
            ahead = (x + step * math.cos(angle), y + step * math.sin(angle))
            draw.line((x, y, *ahead), fill=min(255, round(95 * girth)), width=max(1, round(girth * frame.scale / 400)))
            x, y = ahead
            if rng.random() < 0.12:
                tips.append((x, y, angle + rng.choice([-0.8, 0.8]), girth * 0.75))
    return blurred(np.asarray(image, np.float32) / 255, frame.scale / 320)


def _albedo(frame: Frame, domes: _Domes) -> FloatArray:
    """Colour (H, W, 3) of mucosa with vessels, of polyps, which may differ little, and of residue."""
    rng = frame.rng
    base = _MUCOSA[rng.integers(len(_MUCOSA))] * rng.uniform(0.92, 1.08, 3).astype(np.float32)
    paleness = frame.noise(3)
    redness = np.stack([0.03 * frame.noise(2), 0.07 * paleness, 0.07 * paleness + 0.05 * frame.noise(3)], -1)
    colour = base * (1 + redness + 0.025 * frame.noise(50)[..., None])
    colour = colour * (1 - rng.uniform(0.15, 0.6) * _vessels(frame)[..., None] * np.array([0.5, 1, 0.9], np.float32))
    tint = 1 + (_POLYP_TINTS[rng.integers(len(_POLYP_TINTS))] - 1) * rng.uniform(0.25, 1.0)
    pits = 1 + 0.035 * frame.noise(rng.uniform(25, 60)) + 0.04 * frame.noise(8)
    colour = _mix(colour, base * (1 + 0.5 * redness) * tint * pits[..., None], domes.polyp[..., None] * 0.9)
    residue = np.clip((frame.noise(4) + 0.5 * frame.noise(16) - rng.uniform(1.7, 3.2)) * 1.5, 0, 0.8)
    return _mix(colour, _RESIDUE, residue[..., None])


def _bubbles(frame: Frame) -> FloatArray:
    """Clusters of thin bright rings in [0, 1], each with a glint."""
    rng, (height, width) = frame.rng, frame.u.shape
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(0, 3)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        for _ in range(rng.integers(2, 12)):
            cx, cy = rng.normal((x, y), 0.04 * frame.scale)
            r = frame.log_uniform(0.006, 0.03) * frame.scale
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), outline=110)
            draw.ellipse((cx - r / 2, cy - r / 2, cx - r / 4, cy - r / 4), fill=255)
    return blurred(np.asarray(image, np.float32) / 255, frame.scale / 480)


def render_scene(frame: Frame) -> tuple[FloatArray, FloatArray]:
    """Draw tissue with one to three polyps by the frame's chance.

    Args:
        frame: the pixel grid, (H, W).

    Returns:
        The colours, (H, W, 3) in [0, 1], and how far polyps cover each pixel, (H, W) in [0, 1].
    """
    sites = _polyp_sites(frame)
    domes = _make_domes(frame, sites)
    light, gloss = _lit(frame, domes, sites[0])
    exposed = light[..., None] * frame.log_uniform(0.9, 1.5)
    scene = 1 - np.exp(-1.45 * _albedo(frame, domes) * exposed**_LIGHT_EXPONENTS)
    return _mix(scene, 1.0, np.maximum(gloss, 0.7 * _bubbles(frame))[..., None]), domes.polyp

"""The shapes world: two coloured shapes in two quadrants of a 32 x 32 image, with an English caption.

Scenes are drawn by code, so the world is endless, seeded and free of copyright, and the true attributes of every
image are known. Shapes are signed distance functions, which makes anti-aliasing one clamp and rendering one batch.
"""

import math
import re
from dataclasses import dataclass, fields

import torch


SIZE = 32
SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
QUADRANTS = ("top left", "top right", "bottom left", "bottom right")
BACKGROUNDS = ("dark", "grey", "light")

_RGB = torch.tensor(
    [[224, 44, 44], [44, 168, 72], [52, 92, 232], [244, 200, 32], [156, 60, 196], [48, 204, 216]], dtype=torch.float32
)
_BACKGROUND_RGB = torch.tensor([[28, 28, 36], [128, 128, 128], [240, 238, 232]], dtype=torch.float32)
_CORNERS = tuple(torch.combinations(torch.arange(4)))  # the six ways to fill two of four quadrants
_RADIUS = (4.6, 6.6)  # pixels; with the offset below the edge of its quadrant cuts at most the tip of a shape
_OFFSET = 0.9  # pixels
_ANGLE = math.pi / 8


@dataclass(frozen=True)
class Scenes:
    """A batch of B scenes, two objects each, ordered by quadrant.

    Attributes:
        quadrant: (B, 2) int64, index into `QUADRANTS`, strictly increasing along the last dimension.
        shape: (B, 2) int64, index into `SHAPES`.
        colour: (B, 2) int64, index into `COLOURS`.
        background: (B,) int64, index into `BACKGROUNDS`.
        radius: (B, 2) float32, pixels. offset: (B, 2, 2) float32, pixels, as (x, y). angle: (B, 2) float32, radians.
    """

    quadrant: torch.Tensor
    shape: torch.Tensor
    colour: torch.Tensor
    background: torch.Tensor
    radius: torch.Tensor
    offset: torch.Tensor
    angle: torch.Tensor

    def __len__(self) -> int:
        return self.background.shape[0]

    def __getitem__(self, index: slice | torch.Tensor) -> "Scenes":
        """The scenes that `index` (a slice, or a tensor of indices) selects."""
        return Scenes(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    @classmethod
    def sample(cls, count: int, generator: torch.Generator) -> "Scenes":
        """Draw `count` scenes; every attribute is uniform and independent of the others."""

        def choose(options: int, *shape: int) -> torch.Tensor:
            return torch.randint(options, (count, *shape), generator=generator)

        def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
            return low + (high - low) * torch.rand(count, *shape, generator=generator)

        return cls(
            quadrant=torch.stack(_CORNERS)[choose(len(_CORNERS))],
            shape=choose(len(SHAPES), 2),
            colour=choose(len(COLOURS), 2),
            background=choose(len(BACKGROUNDS)),
            radius=uniform(*_RADIUS, 2),
            offset=uniform(-_OFFSET, _OFFSET, 2, 2),
            angle=uniform(-_ANGLE, _ANGLE, 2),
        )

    def captions(self) -> list[str]:
        """One sentence a scene, objects in reading order; `parse_captions` is its inverse."""
        found = []
        columns = (each.tolist() for each in (self.quadrant, self.shape, self.colour, self.background))
        for *objects, background in zip(*columns, strict=True):
            said = (f"a {COLOURS[c]} {SHAPES[s]} at the {QUADRANTS[q]}" for q, s, c in zip(*objects, strict=True))
            found.append(f"{' and '.join(said)} on a {BACKGROUNDS[background]} background")
        return found

    def attributes(self) -> torch.Tensor:
        """(B, 9) int64: shape and colour of each quadrant (0 = empty, else index + 1), then the background."""
        table = torch.zeros(len(self), 4, 2, dtype=torch.int64)
        rows = torch.arange(len(self)).unsqueeze(1)
        table[rows, self.quadrant] = torch.stack([self.shape, self.colour], dim=-1) + 1
        return torch.cat([table.flatten(1), self.background.unsqueeze(1)], dim=1)

    def render(self) -> torch.Tensor:
        """(B, 3, 32, 32) float32 images in [0, 1], anti-aliased over one pixel."""
        half = SIZE // 2
        axis = torch.arange(half, dtype=torch.float32) + 0.5 - half / 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        point = torch.stack([x, y], dim=-1) - self.offset[:, :, None, None]  # (B, 2, 16, 16, 2)
        cos, sin = torch.cos(self.angle)[..., None, None], torch.sin(self.angle)[..., None, None]
        px, py = point.unbind(-1)
        point = torch.stack([cos * px + sin * py, cos * py - sin * px], dim=-1)
        radius = self.radius[..., None, None]
        distance = torch.where(
            (self.shape == 0)[..., None, None],
            point.norm(dim=-1) - 0.9 * radius,
            radius * _polygon_distance(point / radius.unsqueeze(-1), _POLYGONS[self.shape]),
        )
        cover = (0.5 - distance).clamp(0, 1).unsqueeze(2)  # (B, 2, 1, 16, 16)

        ground = (_BACKGROUND_RGB[self.background] / 255)[:, :, None, None]
        colour = (_RGB[self.colour] / 255)[..., None, None]
        patch = cover * colour + (1 - cover) * ground.unsqueeze(1)
        quadrants = ground.unsqueeze(1).repeat(1, 4, 1, half, half)
        quadrants[torch.arange(len(self)).unsqueeze(1), self.quadrant] = patch
        rows = [torch.cat([quadrants[:, i], quadrants[:, i + 1]], dim=-1) for i in (0, 2)]
        return torch.cat(rows, dim=-2)


def parse_captions(captions: list[str]) -> torch.Tensor:
    """Attributes that captions of the world ask for: (B, 9) int64, as `Scenes.attributes`.

    Raises:
        ValueError: a caption is not a sentence of this world; the message shows the expected form.
    """
    table = torch.zeros(len(captions), 9, dtype=torch.int64)
    for row, caption in enumerate(captions):
        objects = _OBJECT.findall(caption)
        ground = _GROUND.search(caption)
        if len({place for _, _, place in objects}) != 2 or len(objects) != 2 or ground is None:
            raise ValueError(
                f"not a caption of the shapes world: {caption!r}; expected for example 'a red circle at the top left "
                f"and a blue star at the bottom right on a dark background' (shapes {SHAPES}, colours {COLOURS}, "
                f"two different places of {QUADRANTS}, backgrounds {BACKGROUNDS})"
            )
        for colour, shape, place in objects:
            quadrant = QUADRANTS.index(place)
            table[row, 2 * quadrant] = SHAPES.index(shape) + 1
            table[row, 2 * quadrant + 1] = COLOURS.index(colour) + 1
        table[row, 8] = BACKGROUNDS.index(ground.group(1))
    return table


def vocabulary() -> list[str]:
    """Every word that a caption of this world can hold, sorted."""
    words = {"a", "at", "the", "and", "on", "background", *SHAPES, *COLOURS, *BACKGROUNDS}
    return sorted(words.union(*(place.split() for place in QUADRANTS)))


_OBJECT = re.compile(rf"a ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}) at the ({'|'.join(QUADRANTS)})")
_GROUND = re.compile(rf"on a ({'|'.join(BACKGROUNDS)}) background")


def _regular(radii: list[float]) -> list[tuple[float, float]]:
    """Corners at equal angles, clockwise from the top, at the given radii."""
    return [
        (r * math.sin(2 * math.pi * i / len(radii)), -r * math.cos(2 * math.pi * i / len(radii)))
        for i, r in enumerate(radii)
    ]


def _polygons() -> torch.Tensor:
    """(5, 12, 2) corners on the unit circle, the last corner repeated (an edge of length zero changes nothing)."""
    a, b = 1.0, 0.34
    arm = [(-b, -a), (b, -a), (b, -b)]
    cross = [*arm, *((-y, x) for x, y in arm), *((-x, -y) for x, y in arm), *((y, -x) for x, y in arm)]
    corners = [
        [(0.0, 0.0)],  # the circle has no corners; it is not drawn from this table
        [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
        [(1.1 * x, 1.1 * y + 0.15) for x, y in _regular([1.0] * 3)],
        [(1.1 * x, 1.1 * y) for x, y in _regular([1.0, 0.42] * 5)],
        cross,
    ]
    return torch.tensor([row + [row[-1]] * (12 - len(row)) for row in corners])


_POLYGONS = _polygons()


def _polygon_distance(point: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """Signed distance (negative inside) of points (B, K, H, W, 2) to polygons with corners (B, K, V, 2)."""
    start, end = corners[:, :, None, None], corners.roll(-1, dims=2)[:, :, None, None]
    edge, to_point = end - start, point.unsqueeze(-2) - start
    along = (to_point * edge).sum(-1) / edge.square().sum(-1).clamp_min(1e-12)
    nearest = to_point - edge * along.clamp(0, 1).unsqueeze(-1)
    distance = nearest.square().sum(-1).amin(-1).sqrt()
    # Even-odd rule: a point is inside when a ray from it crosses the boundary an odd number of times.
    above, below = start[..., 1] > point[..., None, 1], end[..., 1] > point[..., None, 1]
    crossing = start[..., 0] + edge[..., 0] * (point[..., None, 1] - start[..., 1]) / torch.where(
        edge[..., 1] == 0, torch.ones_like(edge[..., 1]), edge[..., 1]
    )
    inside = ((above != below) & (point[..., None, 0] < crossing)).sum(-1) % 2 == 1
    return torch.where(inside, -distance, distance)

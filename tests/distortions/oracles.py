"""Slow, plain truths in NumPy, written from the definitions: one image, one pixel or one copy at a time."""

import numpy as np


def correlated(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """`(H, W)` correlated with `(h, w)`, borders replicated."""
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(image, ((rows, rows), (columns, columns)), mode="edge")
    out = np.zeros(image.shape)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = (padded[y : y + kernel.shape[0], x : x + kernel.shape[1]] * kernel).sum()
    return out


def quantized(image: np.ndarray, levels: int) -> np.ndarray:
    """`(3, H, W)` in [0, 1]: the index of each value's bin, stretched to the full range."""
    edges = [int(255 * k / levels) for k in range(levels)]
    index = np.zeros(image.shape)
    for place, value in np.ndenumerate(image):
        index[place] = sum(np.float32(value) * np.float32(255) > edge for edge in edges)
    return (index - index.min()) / (index.max() - index.min())


def pixelated(image: np.ndarray, strength: float) -> np.ndarray:
    """`(3, H, W)`: nearest neighbour down and up again."""
    height, width = image.shape[1:]
    zoom = 0.95 - strength**0.6
    few_rows, few_columns = int(height * zoom), int(width * zoom)
    out = np.empty_like(image)
    for y in range(height):
        for x in range(width):
            row = int(int(y * few_rows / height) * height / few_rows)
            column = int(int(x * few_columns / width) * width / few_columns)
            out[:, y, x] = image[:, row, column]
    return out


def spline(points: list[tuple[float, float]], x: np.ndarray) -> np.ndarray:
    """The not-a-knot cubic spline through `points` at `x`."""
    from scipy.interpolate import CubicSpline

    return CubicSpline(*zip(*points, strict=True), bc_type="not-a-knot")(x)


def copied_in_place(image: np.ndarray, source: tuple[int, int], target: tuple[int, int], side: int) -> None:
    """Copy a square of `(H, W)` row by row inside the one buffer."""
    for row in range(side):
        line = image[source[0] + row, source[1] : source[1] + side].copy()
        image[target[0] + row, target[1] : target[1] + side] = line


def edges(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """`(3, H, W)`: blurred gradients in 0..1; each row loses the pixel whose place is the rank of its first."""
    gray = np.pad(np.tensordot([0.299, 0.587, 0.114], image, 1), 1, mode="edge")
    length = np.hypot(gray[1:-1, 2:] - gray[1:-1, :-2], gray[2:, 1:-1] - gray[:-2, 1:-1])
    out = correlated(length, np.outer(window, window))
    out = (out - out.min()) / (out.max() - out.min())
    for row in out:
        row[(row < row[0]).sum()] = 0
    return out

"""Moments of what enters a batch-norm layer, and the gradient of the loss of them, on a CPU: each one pass, compiled.

Values lie as rows [B, H, W * F] of channels-last memory, float32, or bfloat16 as the uint16 of its bits. As torch
operations the same take three to five passes.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from lpqld._numba import compiled, inlined


def _widened(value):
    """A float32 of `value`; Python cannot, and numba takes what is below."""
    raise NotImplementedError


@overload(_widened, inline="always")
def _widened_for_its_type(value):
    if value == types.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


def _narrowed(number, like):
    """A float32 in the type of `like`; Python cannot, and numba takes what is below."""
    raise NotImplementedError


@overload(_narrowed, inline="always")
def _narrowed_for_its_type(number, like):
    if like == types.uint16:
        return lambda number, like: _bfloat16(np.float32(number).view(np.uint32))
    return lambda number, like: number


@inlined
def _bfloat16(bits):
    """The upper half of a float32, rounded to the nearest, ties to even."""
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@inlined
def _repeat(numbers, row):
    """Numbers of each channel, again and again along a row."""
    for start in range(0, row.shape[0], numbers.shape[0]):
        row[start : start + numbers.shape[0]] = numbers


@compiled
def add_moments(values, first, last, group_size, shift, offsets, squares):
    """Add the sums of (values - shift) and of their squares over images `first` to `last` - 1 and their positions.

    `shift` is float32 [G or 1, F]; the sums are added to `offsets` and `squares`, float64 [G, F].
    """
    height, length, num_channels = values.shape[1], values.shape[2], shift.shape[1]
    near = np.empty(length, np.float32)
    offset_sum, square_sum = np.empty(length, np.float32), np.empty(length, np.float32)
    for image in range(first, last):
        group = image // group_size
        _repeat(shift[min(group, shift.shape[0] - 1)], near)
        offset_sum[:] = 0
        square_sum[:] = 0
        for y in range(height):
            row = values[image, y]
            for x in range(length):
                offset = _widened(row[x]) - near[x]
                offset_sum[x] += offset
                square_sum[x] += offset * offset
        for start in range(0, length, num_channels):
            for channel in range(num_channels):
                offsets[group, channel] += offset_sum[start + channel]
                squares[group, channel] += square_sum[start + channel]


@compiled
def loss_and_gradient(offsets, squares, count, mean, variance, weight, slope, constant):
    """The distance of moments from theirs, and its gradient by a value x: slope * x + constant, both [G, F].

    `offsets` and `squares` are sums over `count` values about `mean`. With m and v the moments, the distance is
    ||v - variance||_2 + ||m - mean||_2, summed over groups; its gradient counts `weight` times.
    """
    distance = 0.0
    for group in range(mean.shape[0]):
        to_mean = offsets[group] / count
        to_variance = squares[group] / count - to_mean * to_mean - variance[group]
        from_mean, from_variance = np.sqrt((to_mean * to_mean).sum()), np.sqrt((to_variance * to_variance).sum())
        distance += from_mean + from_variance
        for channel in range(mean.shape[1]):
            steep = 2 * weight / count * to_variance[channel] / max(from_variance, 1e-12)
            flat = weight / count * to_mean[channel] / max(from_mean, 1e-12)
            slope[group, channel] = steep
            constant[group, channel] = flat - steep * (mean[group, channel] + to_mean[channel])
    return distance


@compiled
def add_line(gradient, values, first, last, group_size, slope, constant, out):
    """gradient + slope * values + constant of images `first` to `last` - 1 into `out`."""
    height, length = values.shape[1], values.shape[2]
    steep, flat = np.empty(length, np.float32), np.empty(length, np.float32)
    for image in range(first, last):
        _repeat(slope[image // group_size], steep)
        _repeat(constant[image // group_size], flat)
        for y in range(height):
            incoming, row, outgoing = gradient[image, y], values[image, y], out[image, y]
            for x in range(length):
                number = _widened(incoming[x]) + _widened(row[x]) * steep[x] + flat[x]
                outgoing[x] = _narrowed(number, incoming[x])

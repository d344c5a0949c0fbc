"""How far an observed share carries.

References:
    [Wilson1927] E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
"""

from __future__ import annotations

import math
from statistics import NormalDist


def wilson(share: float, num_samples: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a binomial share [Wilson1927].

    Args:
        share: observed share of successes, in [0, 1].
        num_samples: independent samples behind it, at least 1.
        confidence: two-sided, in (0, 1).

    Returns:
        Lower and upper limit, within [0, 1]; they enclose ``share`` and, unlike the normal approximation, are of
        use at shares of 0 and 1 and for few samples.
    """
    assert 0 <= share <= 1, share
    assert num_samples >= 1, num_samples
    assert 0 < confidence < 1, confidence
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    shrink = 1 + z * z / num_samples
    centre = (share + z * z / (2 * num_samples)) / shrink
    half = z * math.sqrt(share * (1 - share) / num_samples + z * z / (4 * num_samples**2)) / shrink
    # At 0 and 1 the exact limits are the share itself; rounding must not push them past it.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))

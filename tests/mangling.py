"""Ways to damage a file, as a hypothesis strategy: from its bytes to other bytes."""

from __future__ import annotations

from hypothesis import strategies as st

__all__ = ["mangle"]


@st.composite
def mangle(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return the bytes with one to four cuts, flips, insertions, doublings or swaps."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(1, 40))
        match draw(st.sampled_from(["cut", "drop", "flip", "insert", "double", "swap"])):
            case "cut":
                del data[place:]
            case "drop":
                del data[place : place + length]
            case "flip" if data:
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[place:place] = draw(
                    st.binary(min_size=1, max_size=8)
                    | st.sampled_from([b'"', b"}", b"{", b",", b"\\"])
                )
            case "double":
                data[place:place] = data[place : place + length]
            case "swap":
                data[place : place + 2 * length] = (
                    data[place + length : place + 2 * length] + data[place : place + length]
                )
    return bytes(data)

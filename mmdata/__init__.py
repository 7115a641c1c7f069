"""Multimodal fine-tuning data: any source in, one Arrow conversation store out, every record accounted for."""

__version__ = "0.1.0"

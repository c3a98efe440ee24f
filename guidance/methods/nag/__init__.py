"""Negative prompts without classifier-free guidance: NAG, normalized attention guidance (arXiv 2505.21179)."""

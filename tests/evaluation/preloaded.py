"""What the processes of `commands` have imported when they are forked."""

import diffusers.pipelines.dit.pipeline_dit
import scipy.linalg

import diffusion_guidance.cli.command
import diffusion_guidance.cli.evaluation_run
import diffusion_guidance.cli.generate
import diffusion_guidance.evaluation
import diffusion_guidance.evaluation.subjects
import diffusion_guidance.pipelines


__all__ = ["diffusers", "diffusion_guidance", "scipy"]

"""Class-conditional images in pixel space: a diffusion transformer without an autoencoder."""

import inspect
from collections.abc import Callable

import torch
from diffusers import DiffusionPipeline, DiTTransformer2DModel, ImagePipelineOutput, SchedulerMixin
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor

from diffusion_guidance.attachment.families import Family, register_family
from diffusion_guidance.attachment.mixin import GuidanceMixin


register_family(
    Family(
        pipelines=("ClassConditionalPipeline",),
        denoiser="transformer",
        enable="guidance_scale above 1 in the pipeline's call",
        weight="guidance_scale",
    )
)


class ClassConditionalPipeline(GuidanceMixin, DiffusionPipeline):
    """Class-conditional generation in pixel space with classifier-free guidance.

    Args:
        transformer: takes images in [-1, 1] of its configuration's `in_channels` and `sample_size`, and class ids
            from 0 to `num_embeds_ada_norm - 1`; the id `num_embeds_ada_norm` means no class. With twice as many output
            as input channels the second half, a learned variance, is dropped.
        scheduler: any that steps from a model output, for the transformer's prediction type.
    """

    model_cpu_offload_seq = "transformer"
    _callback_tensor_inputs = ("latents",)

    def __init__(self, transformer: DiTTransformer2DModel, scheduler: SchedulerMixin):
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)
        self.image_processor = VaeImageProcessor(do_resize=False)

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def num_classes(self) -> int:
        """Number of classes, which is also the id that means no class."""
        return self.transformer.config.num_embeds_ada_norm

    @torch.no_grad()
    def __call__(
        self,
        class_labels: int | list[int],
        guidance_scale: float = 4.0,
        num_inference_steps: int = 50,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[["ClassConditionalPipeline", int, torch.Tensor, dict], dict] | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006 (diffusers' convention)
    ) -> ImagePipelineOutput | tuple:
        """One image for each class id.

        Args:
            class_labels: class ids; B of them.
            guidance_scale: weight w of `uncond + w * (cond - uncond)`; the unconditional pass runs if it is above 1.
            num_inference_steps: steps of the scheduler.
            generator: of the noise; one per sample makes each image independent of the rest of the batch.
            latents: (B, C, H, W) unit Gaussian noise to start from, in place of drawing it.
            output_type: "pil", "np" (B, H, W, C) in [0, 1], "pt" (B, C, H, W) in [0, 1], or "latent": as the model
                gives it, about [-1, 1], not clipped.
            return_dict: an `ImagePipelineOutput`, or a plain tuple of its one field.
            callback_on_step_end: called as in all of diffusers' pipelines; may return {"latents": tensor}.
            callback_on_step_end_tensor_inputs: what that callback gets; there is only "latents".

        Raises:
            ValueError: a class id out of range, a wrong number of generators, latents of a wrong shape, or an unknown
                output type or callback tensor.
        """
        labels = [class_labels] if isinstance(class_labels, int) else list(class_labels)
        config = self.transformer.config
        shape = (len(labels), config.in_channels, config.sample_size, config.sample_size)
        self._check(labels, generator, latents, shape, output_type, callback_on_step_end_tensor_inputs)
        self._guidance_scale = guidance_scale
        device, dtype = self._execution_device, self.transformer.dtype

        self.scheduler.set_timesteps(num_inference_steps, device=device)
        self._num_timesteps = len(self.scheduler.timesteps)
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=dtype)
        latents = latents.to(device, dtype) * self.scheduler.init_noise_sigma
        ids = torch.tensor(labels, device=device)
        guided = guidance_scale > 1
        if guided:
            ids = torch.cat([torch.full_like(ids, self.num_classes), ids])
        takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
        extra = {"generator": generator} if takes_generator else {}

        for index, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            inputs = self.scheduler.scale_model_input(torch.cat([latents, latents]) if guided else latents, t)
            output = self.transformer(
                inputs.to(dtype), timestep=t.expand(len(inputs)), class_labels=ids, return_dict=False
            )[0][:, : config.in_channels]
            if guided:
                uncond, cond = output.chunk(2)
                output = uncond + guidance_scale * (cond - uncond)
            latents = self.scheduler.step(output, t, latents, **extra, return_dict=False)[0].to(dtype)
            if callback_on_step_end is not None:
                given = dict.fromkeys(callback_on_step_end_tensor_inputs, latents)
                latents = callback_on_step_end(self, index, t, given).pop("latents", latents)

        images = self.image_processor.postprocess(latents, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _check(
        self,
        labels: list[int],
        generator: torch.Generator | list[torch.Generator] | None,
        latents: torch.Tensor | None,
        shape: tuple[int, ...],
        output_type: str,
        tensor_inputs: list[str],
    ) -> None:
        if not labels or not all(isinstance(label, int) and 0 <= label < self.num_classes for label in labels):
            raise ValueError(f"class_labels are whole numbers from 0 to {self.num_classes - 1}, got {labels}")
        if isinstance(generator, list) and len(generator) != len(labels):
            raise ValueError(f"give one generator, or one per sample: {len(generator)} for {len(labels)} class_labels")
        if latents is not None and latents.shape != shape:
            raise ValueError(f"latents must be of shape {shape}, got {tuple(latents.shape)}")
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(f"output_type must be 'pil', 'np', 'pt' or 'latent', got {output_type!r}")
        if unknown := set(tensor_inputs) - set(self._callback_tensor_inputs):
            raise ValueError(f"callback_on_step_end_tensor_inputs has no {', '.join(sorted(unknown))}, only latents")

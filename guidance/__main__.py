"""`python -m diffusion_guidance` is the command `diffusion-guidance`."""

from .cli.command import main


if __name__ == "__main__":
    main()

"""Train the bundled model from scratch.

    make train          (or: python -m training --out out/training)

It may be interrupted at any time. The same command continues from the last checkpoint.
"""

import argparse
import json
import logging
import shutil
import time
from pathlib import Path

import torch

from training.bundle import save_bundle, save_samples
from training.captioner import train_captioner
from training.data import Pictures
from training.denoiser import train_denoiser
from training.prompter import train_prompter
from training.scenes import require_font
from training.vae import round_trip_psnr, train_vae

log = logging.getLogger("training")

PICTURES = 40_000
HELD_OUT = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], prog="python -m training")
    parser.add_argument("--out", type=Path, default=Path("out/training"), help="directory of checkpoints and bundle")
    parser.add_argument("--seed", type=int, default=0, help="seed of scenes and weights; others are held out")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="number of drawn pictures")
    args = parser.parse_args()
    require_font()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    # With models this small, more threads only wait for each other.
    torch.set_num_threads(min(2, torch.get_num_threads()))
    work: Path = args.out
    work.mkdir(parents=True, exist_ok=True)

    began = time.monotonic()
    pictures = Pictures(work, args.seed, args.pictures)
    vae, latents = train_vae(pictures, work, args.seed)
    log.info(
        "PSNR of the VAE round trip: %.2f dB",
        round_trip_psnr(vae, Pictures(work, args.seed + 1, HELD_OUT).images(slice(None))),
    )
    denoiser = train_denoiser(latents, pictures, work, args.seed)
    captioner = train_captioner(pictures, work, args.seed)
    prompter = train_prompter(work, args.seed)

    bundle = work / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    save_bundle(bundle, vae=vae, denoiser=denoiser, captioner=captioner, prompter=prompter)
    save_samples(bundle / "samples")
    (bundle / "training.json").write_text(
        json.dumps({"seeds": [args.seed, args.seed + 1], "pictures": args.pictures}) + "\n"
    )
    log.info("%s is finished; this run took %.0f minutes", bundle, (time.monotonic() - began) / 60)


if __name__ == "__main__":
    main()

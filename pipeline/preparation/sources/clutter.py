"""Names of files and folders that systems leave among images: they are passed over."""

_NAMES = frozenset({
    # folders of Synology, QNAP, macOS, Windows, Linux and Python
    *("@eadir", "@tmp", "#recycle", "#snapshot", "@__thumb", "@recycle", "@recently-snapshot"),
    *("__macosx", "network trash folder", "temporary items"),
    *("$recycle.bin", "system volume information", "lost+found", "__pycache__"),
    # files with thumbnails and settings
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r"),
    # hidden ones that are nobody's images
    *(".ds_store", ".appledouble", ".spotlight-v100", ".fseventsd", ".temporaryitems", ".ipynb_checkpoints"),
    *(".git", ".gitignore", ".gitattributes", ".gitkeep", ".keep", ".svn", ".dvc", ".dvcignore", ".huggingface"),
    *(".thumbnails", ".thumbs", ".directory", ".nomedia", ".cache", ".snapshot", ".snapshots"),
})  # fmt: skip
_BEGINNINGS = ("synofile_thumb", "synophoto_thumb", "._", ".trash", ".nfs", ".picasa")


def is_clutter(name: str) -> bool:
    """Returns whether a name is one that systems leave among images, in capitals or not."""
    name = name.lower()
    return name in _NAMES or name.startswith(_BEGINNINGS)

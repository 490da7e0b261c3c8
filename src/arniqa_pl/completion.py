"""eval "$(python -m arniqa_pl.completion)": Bash completes options, experiments and values of `python -m arniqa_pl.…`.

Hydra's own completion knows commands that are files or programs, not modules, and would import PyTorch at each Tab.
"""

import sys

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from arniqa_pl.composition import CONFIG_DIR

SCRIPT = r"""
_arniqa_pl() {
    local verb=${COMP_WORDS[2]#arniqa_pl.}
    [[ ${COMP_WORDS[1]} == -m && ${COMP_WORDS[2]} == arniqa_pl.* ]] || return
    local line="$verb ${COMP_LINE#*arniqa_pl."$verb"}"
    local found; found=$(COMP_LINE=$line "${COMP_WORDS[0]}" -m arniqa_pl.completion "$verb" 2> /dev/null)
    COMPREPLY=($(compgen -W "$found" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _arniqa_pl python python3
"""


def main() -> None:
    """Write the script, or with a verb the words that may follow on the line in the variable COMP_LINE."""
    if len(sys.argv) == 1:
        sys.stdout.write(SCRIPT)
        return
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        if hydra is not None:
            hydra.shell_completion(config_name=sys.argv[1], overrides=["query=bash"])


if __name__ == "__main__":
    main()

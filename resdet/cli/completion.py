"""`resdet completion`: shell scripts that complete the words of `resdet`.

A script calls `resdet completion` for the candidates, with the words in an environment variable.
"""

import argparse
import os

from resdet.cli.arguments import add_command

WORDS = "_RESDET_WORDS"  # the words after `resdet`, one per line; the last one is to be completed
BASH = """
_resdet() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$' \\t'
    local -a words=($line)
    [[ "$line" == *[[:space:]] ]] && words+=("")
    local IFS=$'\\n'
    local cur="${words[${#words[@]}-1]}"
    COMPREPLY=($(_RESDET_WORDS="${words[*]:1}" resdet completion bash 2>/dev/null))
    local kept="${cur%"${cur##*[=:]}"}"
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
    [[ "${COMPREPLY[0]}" == *[=./] ]] && compopt -o nospace
}
complete -o default -F _resdet resdet
"""
ZSH = """
#compdef resdet
_resdet() {
    local -a found open
    found=("${(@f)$(_RESDET_WORDS="${(pj:\\n:)words[2,CURRENT]}" resdet completion zsh 2>/dev/null)}")
    open=(${(M)found:#*[=./]})
    found=(${found:#*[=./]})
    (( $#open )) && compadd -Q -S '' -- $open
    (( $#found )) && compadd -Q -- $found
    (( $#open + $#found )) || _files
}
if [ "$funcstack[1]" = "_resdet" ]; then _resdet "$@"; else compdef _resdet resdet; fi
"""
FISH = """
function __resdet
    set -l words (commandline -opc)[2..] (commandline -ct)
    set -lx _RESDET_WORDS (string join \\n -- $words | string collect --allow-empty)
    set -l found (resdet completion fish 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c resdet -f -a '(__resdet)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
INSTALL = """To complete words in all later shells:
  bash   echo 'eval "$(resdet completion bash)"' >> ~/.bashrc
  zsh    echo 'eval "$(resdet completion zsh)"' >> ~/.zshrc    (after compinit)
  fish   resdet completion fish > ~/.config/fish/completions/resdet.fish"""


def add(commands) -> None:
    parser = add_command(commands, "completion", "print a script that completes words of resdet in a shell")
    parser.epilog, parser.formatter_class = INSTALL, argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=list(SCRIPTS))
    parser.set_defaults(run=run)


def run(parsed) -> None:
    words = os.environ.get(WORDS)
    if words is None:
        print(SCRIPTS[parsed.shell].strip())
        return
    from resdet.cli import build_parser
    from resdet.cli.candidates import candidates

    print("\n".join(candidates(build_parser(), words.split("\n"))))

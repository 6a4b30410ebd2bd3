# Commands of a page of the documentation: blocks that begin with ```sh and a word for whom.

# page_blocks FILE: each block into a file below /run/page, and beside it for whom it is.
page_blocks() {
    rm -rf /run/page && mkdir -p /run/page
    awk '
        /^```sh / { block = sprintf("/run/page/%03d", ++count); print substr($0, 7) >(block ".for"); next }
        /^```/ { block = "" }
        block { print >block }' "$1"
    [ -s /run/page/001 ] || fail "no commands in $1"
}

# page_run [TAG] [also TAG]: runs them in order: those without a tag (or those with it alone), and
# those with the second. Guests are a1 and a2. Blocks for others than dom0 and guests are passed by.
page_run() {
    local only=${1:-} block who name tag
    for block in /run/page/???; do
        who=$(cat "$block.for")
        tag=
        case $who in
        *' vf' | *' remove') tag=${who##* } who=${who% *} ;;
        esac
        if [ "$tag" != "$only" ] && ! { [ "${2:-}" = also ] && [ "$tag" = "$3" ]; }; then
            continue
        fi
        case $who in
        dom0)
            step "dom0: block ${block##*/}"
            sed 's/^/    /' "$block"
            . "$block"
            ;;
        guest) for name in a1 a2; do page_in_guest "$name" "$block"; done ;;
        'guest a1' | 'guest a2') page_in_guest "${who#guest }" "$block" ;;
        esac
    done
}

# page_in_guest NAME BLOCK
page_in_guest() {
    step "$1: block ${2##*/}"
    sed 's/^/    /' "$2"
    in_guest "$1" "set -e
$(cat "$2")" 60 || fail "$1: status $? of the block that begins with: $(head -n 1 "$2")"
}

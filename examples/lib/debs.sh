# shellcheck shell=bash
# Sourced by make-image, which sets the variables that are not set here.
# shellcheck disable=SC2154
#
# Debian packages, fetched once and kept below target/debs.
#
# A package that is there is used as it is, so that a second build needs no network and makes the
# same image even after a point release. KEEL_DEBS names another cache; removing it fetches anew.

debs=${KEEL_DEBS:-$here/../target/debs}

# Words that make apt prefer this release's own archive to whatever else the machine knows: a
# vendor's repository, or a package that somebody has installed by hand (apt_preferences(5); a
# priority above 1000 also takes a lower version). Without it the same recipe makes another
# image on another machine.
apt_options=()
prefer_archive() {
    local codename='' file=$work/apt-preferences
    # shellcheck source=/dev/null
    [ ! -e /etc/os-release ] || codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME-}")
    [ -n "$codename" ] || return 0
    printf 'Package: *\nPin: release o=Debian,n=/^%s(-updates|-security)?$/\nPin-Priority: 1001\n' \
        "$codename" >"$file"
    apt_options=(-o "Dir::Etc::Preferences=$file")
}

# apt's lists are older than what the archive has, or are not there at all: fetches them, once.
lists_fetched=''
fetch_lists() {
    [ -z "$lists_fetched" ] || return 1
    lists_fetched=yes
    local sudo=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || return 1
        sudo=(sudo)
    fi
    "${sudo[@]}" apt-get -qq update >&2
}

# The packages that apt knows none of, one a line.
unknown() {
    local package lists candidate
    lists=$(apt-cache "${apt_options[@]}" policy "$@")
    for package in "$@"; do
        candidate=$(sed -n "/^${package//./\\.}:\$/,/Candidate:/s/ *Candidate: //p" <<<"$lists")
        case $candidate in
        '' | '(none)') printf '%s\n' "$package" ;;
        esac
    done
}

# As root, apt warns that its own user cannot write here; it goes on, and so do we.
download() {
    (cd "$fetched" && apt-get -qq "${apt_options[@]}" download "$@") 2>"$work/apt.log"
}

# Fetches those of the packages named that are not in the cache. apt checks each file against the
# signed lists of the archive; what it gave is written down as a sha256 and checked at each use.
fetch_debs() {
    local package missing=() none fetched=$work/debs
    for package in "$@"; do
        [ -e "$debs/$package.deb" ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "apt-get is needed to fetch: ${missing[*]}"
    prefer_archive
    none=$(unknown "${missing[@]}")
    if [ -n "$none" ] && fetch_lists; then none=$(unknown "${missing[@]}"); fi
    [ -z "$none" ] || die "apt knows no package ${none//$'\n'/ } (try: sudo apt-get update)"
    mkdir -p "$debs" "$fetched"
    printf 'fetching %s\n' "${missing[*]}" >&2
    # The archive drops a version when the next one comes.
    download "${missing[@]}" || { fetch_lists && download "${missing[@]}"; } ||
        die "apt-get download: $(cat "$work/apt.log")"
    for package in "${missing[@]}"; do
        local file name
        file=$(find "$fetched" -name "${package}_*.deb")
        [ -f "$file" ] || die "apt-get fetched no file for $package"
        name=$(dpkg-deb -f "$file" Package)
        [ "$name" = "$package" ] || die "the file for $package says it is $name"
        sha256sum "$file" | cut -d' ' -f1 >"$debs/$package.sha256"
        mv "$file" "$debs/$package.deb"
    done
}

# Prints `PACKAGE VERSION` after checking that the cached file is the one that was fetched.
check_deb() {
    local sum
    sum=$(sha256sum "$debs/$1.deb" | cut -d' ' -f1)
    [ "$sum" = "$(cat "$debs/$1.sha256" 2>/dev/null)" ] ||
        die "$debs/$1.deb is not the file that was fetched; remove it"
    dpkg-deb -f "$debs/$1.deb" Package Version | sed 's/^[A-Za-z]*: //' | paste -sd' '
}

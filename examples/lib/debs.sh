# shellcheck shell=bash
# Sourced by make-image, which sets the variables that are not set here.
# shellcheck disable=SC2154
#
# Debian packages, downloaded once and cached in target/debs.
#
# A cached package is used as it is, so that a second build needs no network and produces the same
# image even after a point release. KEEL_DEBS sets another cache directory. Delete the cache to
# download again.

debs=${KEEL_DEBS:-$here/../target/debs}

# Options that make apt prefer this release's own archive over other sources on the machine: a
# vendor's repository, or a package that was installed by hand (apt_preferences(5); a priority above
# 1000 allows downgrades). Without them the same recipe produces different images on different
# machines.
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

# Updates apt's package lists, once, when they are missing or older than the archive.
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

# Prints the packages that apt does not know, one per line.
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

# As root, apt warns that the user _apt cannot write to this directory. The download works anyway.
download() {
    (cd "$fetched" && apt-get -qq "${apt_options[@]}" download "$@") 2>"$work/apt.log"
}

# Downloads the named packages that are not in the cache. apt verifies each file against the signed
# lists of the archive; its SHA-256 is then recorded and checked at each use.
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
    # The archive removes a version when its successor arrives.
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

# Prints `PACKAGE VERSION` after checking that the cached file has not changed.
check_deb() {
    local sum
    sum=$(sha256sum "$debs/$1.deb" | cut -d' ' -f1)
    [ "$sum" = "$(cat "$debs/$1.sha256" 2>/dev/null)" ] ||
        die "$debs/$1.deb is not the file that was fetched; remove it"
    dpkg-deb -f "$debs/$1.deb" Package Version | sed 's/^[A-Za-z]*: //' | paste -sd' '
}

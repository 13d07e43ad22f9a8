# shellcheck shell=bash
# Sourced by make-image, which sets the variables that are not set here.
# shellcheck disable=SC2154
#
# Builds one layer: a tree below $work, then a tar archive of it.

# Left out of packages. (In these patterns * also matches slashes.) Copyright files stay: the licences
# require them when an image is redistributed.
default_prune=(
    'usr/share/doc/*' 'usr/share/man/*' 'usr/share/info/*' 'usr/share/locale/*'
    'usr/share/lintian/*' 'usr/share/bug/*' 'usr/share/doc-base/*' 'usr/share/bash-completion/*'
    'etc/init.d/*' 'etc/default/*' 'etc/cron.*/*' 'etc/logrotate.d/*' 'etc/ufw/*'
    'usr/lib/systemd/*' 'usr/lib/tmpfiles.d/*' 'usr/lib/sysusers.d/*' 'usr/share/initramfs-tools/*'
    'etc/apparmor.d/*' 'usr/share/apport/*' 'usr/share/apparmor/*'
)

layer_open=''

in_layer() {
    [ -n "$layer_open" ] || die "$option: begin a layer first (--layer)"
}

start_layer() {
    layer_open=yes
    layer_bare=''
    layer_gzip=''
    layer_packages=("$@")
    layer_steps=()
}

# Splits `a:b:c` into the array `field`; the last field keeps further colons.
split() {
    local text=$1 count=$2
    field=()
    while [ "$count" -gt 1 ] && [ "${text#*:}" != "$text" ]; do
        field+=("${text%%:*}")
        text=${text#*:}
        count=$((count - 1))
    done
    field+=("$text")
}

# Prints where an absolute path of the image is in the tree. Symbolic links of the tree (/bin in
# /bin/sh) are resolved: careful readers refuse a layer with both a link and a path below it.
place() {
    [ "${1#/}" != "$1" ] || die "$1: paths in an image are absolute"
    case /$1/ in */../* | */./*) die "$1: no . or .. in a path" ;; esac
    local parent=${1%/*}
    local real
    real=$(chroot_path "$parent")
    printf '%s%s/%s' "$tree" "$real" "${1##*/}"
}

# Resolves the merged-/usr links, the only links between directories here.
chroot_path() {
    case $1 in
    /bin | /bin/* | /sbin | /sbin/* | /lib | /lib/* | /lib64 | /lib64/*)
        if [ -n "$layer_bare" ]; then printf '%s' "$1"; else printf '/usr%s' "$1"; fi
        ;;
    *) printf '%s' "$1" ;;
    esac
}

# The merged-/usr links exist while packages are unpacked, so that /bin/x ends up in /usr/bin/x. In
# layers above the first they are removed again.
merge_usr() {
    local name
    for name in bin sbin lib lib64; do
        mkdir -p "$tree/usr/$name"
        ln -s "usr/$name" "$tree/$name"
    done
}

unmerge_usr() {
    local name
    for name in bin sbin lib lib64; do
        rm "$tree/$name"
        # Nothing asked for the empty ones, and the layers below have them.
        [ ! -d "$tree/usr/$name" ] || rmdir --ignore-fail-on-non-empty "$tree/usr/$name"
    done
    [ ! -d "$tree/usr" ] || rmdir --ignore-fail-on-non-empty "$tree/usr"
}

skeleton() {
    mkdir -p "$tree"/{dev,proc,sys,etc,run,root,tmp,var/tmp}
    chmod 1777 "$tree/tmp" "$tree/var/tmp"
    chmod 0700 "$tree/root"
    ln -s ../run "$tree/var/run"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n' \
        >"$tree/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$tree/etc/group"
    # Mount points: the host mounts its own files here, and a read-only root must have them.
    : >"$tree/etc/hosts"
    : >"$tree/etc/hostname"
    : >"$tree/etc/resolv.conf"
}

# Prints the newest version of a file in the layers below, or nothing.
below() {
    local index blob
    for ((index = ${#layers[@]} - 1; index >= 0; index--)); do
        blob=$work/blobs/${layers[index]%% *}
        # Not `grep -q`: it would exit early, and tar would get SIGPIPE.
        if tar -tf "$blob" | grep -x "$1" >/dev/null; then
            tar -xOf "$blob" "$1"
            return
        fi
    done
}

prune() {
    local pattern path keep=no
    local patterns=("${default_prune[@]}") keeps=()
    local index
    for ((index = 0; index < ${#layer_steps[@]}; index += 2)); do
        case ${layer_steps[index]} in
        prune) patterns+=("${layer_steps[index + 1]}") ;;
        keep) keeps+=("${layer_steps[index + 1]}") ;;
        esac
    done
    while IFS= read -r -d '' path; do
        case $path in usr/share/doc/*/copyright) continue ;; esac
        keep=yes
        if [ ${#keeps[@]} -gt 0 ]; then
            keep=no
            for pattern in "${keeps[@]}"; do
                # shellcheck disable=SC2053 # a pattern on purpose
                [[ $path != $pattern ]] || keep=yes
            done
        fi
        for pattern in "${patterns[@]}"; do
            # shellcheck disable=SC2053
            [[ $path != $pattern ]] || keep=no
        done
        [ $keep = yes ] || printf '%s\0' "$path"
    done < <(find "$tree" -mindepth 2 ! -type d -printf '%P\0') >"$work/pruned"
    (cd "$tree" && xargs -0r rm -f -- <"$work/pruned")
    # Directories that this emptied are removed too; directories that a package ships empty stay.
    sort -z "$work/pruned" | tr '\0' '\n' | sed -n 's,/[^/]*$,,p' | uniq | sort -ru |
        while IFS= read -r path; do
            (cd "$tree" && rmdir -p --ignore-fail-on-non-empty -- "$path" 2>/dev/null) || true
        done
}

add_user() {
    split "$1" 3
    local name=${field[0]} id=${field[1]} home=${field[2]:-/nonexistent} file
    for file in passwd group; do
        [ -e "$tree/etc/$file" ] || {
            mkdir -p "$tree/etc"
            below "etc/$file" >"$tree/etc/$file"
        }
    done
    printf '%s:x:%s:%s::%s:/usr/sbin/nologin\n' "$name" "$id" "$id" "$home" >>"$tree/etc/passwd"
    printf '%s:x:%s:\n' "$name" "$id" >>"$tree/etc/group"
}

step() {
    local to
    case $1 in
    prune | keep | allow-missing) ;;
    copy)
        split "$2" 3
        to=$(place "${field[1]}")
        [ -e "${field[0]}" ] || die "--copy ${field[0]}: no such file"
        mkdir -p "${to%/*}"
        # Normalises modes, because those of a checkout depend on the umask.
        cp -rT --no-preserve=all -- "${field[0]}" "$to"
        if [ -x "${field[0]}" ] && [ -f "$to" ]; then chmod 0755 "$to"; fi
        [ -z "${field[2]-}" ] || chmod "${field[2]}" "$to"
        ;;
    text)
        split "$2" 2
        to=$(place "${field[0]}")
        mkdir -p "${to%/*}"
        printf '%s\n' "${field[1]}" >"$to"
        ;;
    mkdir)
        split "$2" 2
        to=$(place "${field[0]}")
        mkdir -p "$to"
        [ -z "${field[1]-}" ] || chmod "${field[1]}" "$to"
        ;;
    link)
        split "$2" 2
        to=$(place "${field[1]}")
        mkdir -p "${to%/*}"
        ln -sfn "${field[0]}" "$to"
        ;;
    hardlink)
        split "$2" 2
        to=$(place "${field[1]}")
        mkdir -p "${to%/*}"
        ln "$(place "${field[0]}")" "$to"
        ;;
    fifo)
        to=$(place "$2")
        mkdir -p "${to%/*}"
        mkfifo -m 0644 "$to"
        ;;
    user) add_user "$2" ;;
    own)
        split "$2" 4
        to=$(place "${field[0]}")
        [ -e "$to" ] || [ -L "$to" ] || mkdir -p "$to"
        [ -z "${field[3]-}" ] || chmod "${field[3]}" "$to"
        owner[${to#"$tree"/}]=${field[1]}:${field[2]}
        ;;
    xattr)
        split "$2" 3
        to=$(place "${field[0]}")
        xattr[${to#"$tree"/}]=${field[1]}=${field[2]}
        ;;
    whiteout)
        to=$(place "$2")
        mkdir -p "${to%/*}"
        : >"${to%/*}/.wh.${to##*/}"
        ;;
    opaque)
        to=$(place "$2")
        mkdir -p "$to"
        : >"$to/.wh..wh..opq"
        ;;
    esac
}

# Writes a pax extended header (pax(1), "pax Header Block") with one binary attribute for the entry
# that follows. tar(1) only writes attributes that exist on disk, and setting security.* needs root.
pax_xattr() {
    local path=$1 name=${2%%=*} hex=${2#*=} record=$work/record header=$work/header size total sum
    # The length of a record includes its own digits.
    size=$((${#name} + ${#hex} / 2 + 16))
    total=$((size + ${#size}))
    [ ${#total} -eq ${#size} ] || total=$((size + ${#total}))
    {
        printf '%d SCHILY.xattr.%s=' "$total" "$name"
        # shellcheck disable=SC2059,SC2001 # the format holds the escapes
        printf "$(sed 's/../\\x&/g' <<<"$hex")"
        printf '\n'
    } >"$record"
    [ "$(stat -c %s "$record")" -eq "$total" ] || die "pax record of $path: wrong length"
    # Name; mode, uid, gid, size, mtime, checksum as spaces, type x; link name; magic and version.
    # (Octal escapes of three digits, because digits follow.)
    {
        printf 'PaxHeaders/%.80s' "${path##*/}" | pad 100
        printf '0000644\0000000000\0000000000\000%011o\000%011o\000        x' \
            "$total" "$SOURCE_DATE_EPOCH" | pad 57
        pad 100 </dev/null
        printf 'ustar\00000' | pad 255
    } >"$header"
    sum=$(od -An -v -tu1 "$header" | tr -s ' \n' '\n' | awk '{ sum += $1 } END { print sum }')
    { head -c 148 "$header" && printf '%06o\000 ' "$sum" && tail -c +157 "$header"; }
    pad 512 <"$record"
}

# Copies standard input and pads it with zero bytes to a multiple of $1.
pad() {
    local file size
    file=$(mktemp -p "$work")
    cat >"$file"
    size=$(stat -c %s "$file")
    cat "$file"
    head -c $(((size + $1 - 1) / $1 * $1 - size + (size == 0 ? $1 : 0))) /dev/zero
    rm "$file"
}

# Writes a part of the archive: the entries listed in $1 with owner $2, without the end-of-archive
# blocks (two of 512 bytes with -b1), so that parts can be concatenated.
piece() {
    tar -C "$tree" -c -b1 --format=posix \
        --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime --no-recursion \
        --null --verbatim-files-from -T "$1" --mtime="@$SOURCE_DATE_EPOCH" \
        --numeric-owner --owner="${2%:*}" --group="${2#*:}" | head -c -1024
}

# Writes the whole tree, sorted. One run of tar gives all its entries the same owner, so a run ends
# where the owner changes or an attribute needs its own header. (Hard links that fall into different
# runs become separate files.)
archive() {
    local path current='' run=$work/run
    : >"$run"
    while IFS= read -r -d '' path; do
        local this=${owner[$path]-0:0}
        if [ -s "$run" ] && { [ "$this" != "$current" ] || [ -n "${xattr[$path]-}" ]; }; then
            piece "$run" "$current"
            : >"$run"
        fi
        current=$this
        [ -z "${xattr[$path]-}" ] || pax_xattr "$path" "${xattr[$path]}"
        printf '%s\0' "$path" >>"$run"
    done < <(cd "$tree" && find . -mindepth 1 -printf '%P\0' | sort -z)
    [ ! -s "$run" ] || piece "$run" "$current"
    head -c 1024 /dev/zero
}

# Checks that every shared library that a file of this layer needs is in this layer or below.
check_libraries() {
    local file needed soname allowed=() index missing=''
    command -v objdump >/dev/null || die 'objdump is needed (Debian package binutils)'
    for ((index = 0; index < ${#layer_steps[@]}; index += 2)); do
        [ "${layer_steps[index]}" != allow-missing ] || allowed+=("${layer_steps[index + 1]}")
    done
    {
        find "$tree" \( -type f -o -type l \) -name '*.so*' -printf '%f\n'
        for index in "${layers[@]}"; do
            tar -tf "$work/blobs/${index%% *}" | sed -n 's,.*/\([^/]*\.so[^/]*\)$,\1,p'
        done
        printf '%s\n' "${allowed[@]}"
    } | sort -u >"$work/libraries"
    while IFS= read -r -d '' file; do
        [ "$(head -c 4 "$file" | tr -d '\0')" = $'\x7fELF' ] || continue
        # A file that objdump cannot read has no dynamic dependencies that could be checked.
        needed=$({ objdump -p "$file" 2>/dev/null || true; } | sed -n 's/^ *NEEDED *//p')
        for soname in $needed; do
            grep -qxF "$soname" "$work/libraries" ||
                missing+=$'\n'"  $soname, needed by ${file#"$tree"}"
        done
    done < <(find "$tree" -type f \( -perm /111 -o -name '*.so*' \) -print0)
    [ -z "$missing" ] || die "shared libraries that no layer has:$missing"
}

finish_layer() {
    [ -n "$layer_open" ] || return 0
    layer_open=''
    tree=$work/tree
    mkdir -p "$tree" "$work/blobs"
    declare -gA owner=() xattr=()
    local package origin='files' index
    [ -n "$layer_bare" ] || merge_usr
    if [ ${#layer_packages[@]} -gt 0 ]; then
        fetch_debs "${layer_packages[@]}"
        origin=''
        for package in "${layer_packages[@]}"; do
            origin+="${origin:+, }$(check_deb "$package")"
            dpkg-deb --fsys-tarfile "$debs/$package.deb" |
                tar -C "$tree" -x -p --no-same-owner --keep-directory-symlink
        done
        prune
    fi
    if [ -z "$layer_bare" ] && [ ${#layers[@]} -eq 0 ]; then skeleton; fi
    for ((index = 0; index < ${#layer_steps[@]}; index += 2)); do
        step "${layer_steps[index]}" "${layer_steps[index + 1]}"
    done
    check_libraries
    if [ -z "$layer_bare" ] && [ ${#layers[@]} -gt 0 ]; then unmerge_usr; fi

    archive >"$work/layer.tar"
    local diff digest type=application/vnd.oci.image.layer.v1.tar
    diff=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
    if [ -n "$layer_gzip" ]; then
        gzip -n -9 "$work/layer.tar"
        mv "$work/layer.tar.gz" "$work/layer.tar"
        type+=+gzip
    fi
    digest=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
    layers+=("$digest $(stat -c %s "$work/layer.tar") $diff $type $origin")
    mv "$work/layer.tar" "$work/blobs/$digest"
    chmod -R u+rwX "$tree"
    rm -rf "$tree"
}

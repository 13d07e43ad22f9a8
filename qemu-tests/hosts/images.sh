# shellcheck shell=bash disable=SC2154
# The images of the QEMU tests and the benchmarks, below target/images; sourced by make-images.
# Each host folder here gets the images that its units name, as ./images/NAME.

images=$top/target/images
build guest-tools

# Only one program of a few kilobytes, so that measurements show the cost of the host.
image "$images/first" \
    --layer --bare --copy "$bin/first:/first:755" --entrypoint /first \
    --description 'says when its first instruction ran'

# A static program that performs actions of tests, with user and group files.
image "$images/probe" \
    --layer --bare --copy "$bin/probe:/probe:755" --mkdir /tmp:1777 --mkdir /data \
    --copy "$top/qemu-tests/hosts/etc:/etc" \
    --entrypoint /probe --cmd report --env FROM_IMAGE=yes --env OVERRIDE=image --workdir /data \
    --description 'qemu-tests/guest/src/probe'

image "$images/missing" \
    --layer --bare --copy "$top/qemu-tests/hosts/etc:/etc" --entrypoint /not/there \
    --description 'its entry point is not there'

names=()
for name in sh ash awk cat chmod chown cp date dd df dmesg echo env expr false find free grep head \
    hostname httpd id ifconfig ip kill ls mkdir mknod mount mv nc netstat nslookup ping ps pwd rm \
    route sed seq sleep sort stat stty su sync tail tee test touch top tr true umount uname uptime \
    wc wget whoami yes; do
    names+=(--link "busybox:/bin/$name")
done
image "$images/busybox" \
    --layer busybox-static --prune 'usr/share/*' "${names[@]}" \
    --entrypoint /bin/sh --description 'busybox under the names that tests use'

# All run-time settings of an image.
# shellcheck disable=SC2016
image "$images/declared" --base "$images/busybox" \
    --layer --bare --copy "$top/qemu-tests/hosts/etc:/etc" --text '/kept/seed:from the image' \
    --own /kept:1000:2000:755 --volume /kept --stop-signal SIGUSR1 --run-as tester:helpers \
    --workdir /kept --env WORD=declared --entrypoint /bin/sh --cmd -c --cmd \
    'trap "echo stopped by USR1; exit 0" USR1; echo "$WORD: $(id -u):$(id -g):$(id -G) in $PWD"
     cat seed; cat written; echo kept >written; echo ready; while :; do sleep 0.1; done' \
    --description 'user, volume, stop signal, working directory and environment of its own'

# All features of layers, in three layers. The expected result is in layers.expected, in the format of
# `probe list /tree`.
long=a-name-that-is-longer-than-the-hundred-characters-that-the-oldest-tar-headers-have-room-for-and-needs-another
data=$top/qemu-tests/hosts/etc/passwd
image "$images/layers" \
    --layer --bare --copy "$bin/probe:/probe:755" --entrypoint /probe --cmd list --cmd /tree \
    --text '/tree/kept/file:from layer one' --text '/tree/gone/file:hidden by layer two' \
    --text '/tree/gone/beside:stays' --text '/tree/gone-directory/sub/file:hidden with its parent' \
    --text '/tree/opaque/old:hidden' --text '/tree/opaque/sub/old:hidden' \
    --text '/tree/directory-to-file/x:hidden' --text '/tree/file-to-directory:hidden' \
    --text '/tree/directory-to-link/x:hidden' --link kept:/tree/link-to-directory \
    --text '/tree/links/a:three names' --hardlink /tree/links/a:/tree/links/b \
    --hardlink /tree/links/a:/tree/links/c \
    --link ../kept/file:/tree/links/relative --link /tree/kept/file:/tree/links/absolute \
    --link /nowhere/at/all:/tree/links/dangling --link ../../../../etc/shadow:/tree/links/outward \
    --text '/tree/owned:one' --own /tree/owned:1000:1000:640 \
    --mkdir /tree/private --own /tree/private:1000:1000:700 \
    --text '/tree/private/file:one' --own /tree/private/file:1000:2000:600 \
    --text '/tree/large-id:one' --own /tree/large-id:3000000:3000000 \
    --copy "$data:/tree/setuid:4755" --copy "$data:/tree/setgid:2755" --mkdir /tree/sticky:1777 \
    --copy "$data:/tree/capable:755" \
    --xattr /tree/capable:security.capability:0100000200040000000000000000000000000000 \
    --text '/tree/labelled:one' --xattr /tree/labelled:user.note:66697265 \
    --text "/tree/long/$long:one" --text '/tree/ünï cödé:one' --text '/tree/empty/.keep:' \
    --layer --bare --gzip \
    --whiteout /tree/gone/file --whiteout /tree/gone-directory \
    --opaque /tree/opaque --text '/tree/opaque/new:from layer two' \
    --text '/tree/directory-to-file:from layer two' \
    --text '/tree/file-to-directory/x:from layer two' \
    --link kept:/tree/directory-to-link --mkdir /tree/kept:750 \
    --layer --bare \
    --text '/tree/gone-directory/back:from layer three' \
    --text '/tree/opaque/newer:from layer three' --whiteout /tree/links/c \
    --whiteout /tree/link-to-directory --own /tree/kept:1000:1000:751 \
    --description 'whiteouts, opaque directories, links, owners, modes, attributes'

# shellcheck source=qemu-tests/hosts/hostile-images.sh
. "$top/qemu-tests/hosts/hostile-images.sh"
# shellcheck source=qemu-tests/hosts/real-images.sh
. "$top/qemu-tests/hosts/real-images.sh"

# Hard-links the images that the units of the host folders name.
for unit in "$top"/qemu-tests/hosts/*/units/*.toml; do
    sed -n 's,^ *image *= *"\./images/\([^"]*\)".*,\1,p' "$unit" | while IFS= read -r name; do
        folder=${unit%/units/*}/images
        [ -e "$images/$name" ] || continue
        cmp -s "$images/$name/index.json" "$folder/$name/index.json" && continue
        mkdir -p "$folder"
        rm -rf "${folder:?}/$name"
        cp -al "$images/$name" "$folder/$name" 2>/dev/null ||
            { rm -rf "${folder:?}/$name" && cp -a "$images/$name" "$folder/$name"; }
    done
done

# shellcheck shell=bash disable=SC2154
# Images of attackers, for the tests in qemu-tests/tests/attacks; sourced by images.sh.

hostile=$top/qemu-tests/hosts/hostile
made=$images/.made
mkdir -p "$made"
head -c 2M /dev/zero | tr '\0' x >"$made/two-mebibytes"
# The header of a program of this machine, modified to be one for ARM (e_machine 183).
{ head -c 18 "$bin/probe" && printf '\267\0' && head -c 4096 "$bin/probe" | tail -c +21; } >"$made/arm"
# shellcheck disable=SC2016
snare='#!/bin/sh
echo "$0" >>/trapped'
printf '#!/bin/sh\r\necho ran\r\n' >"$made/dos"

# Tools for attacks from inside, and users that a careless parser takes for root. All but group 1000 may
# read /negative, so a process that loses the group can. /inheritable has all capabilities of a container
# as inheritable ones, /permitted has CAP_CHOWN as a permitted one.
image "$images/attacker" --base "$images/busybox" \
    --layer --bare --copy "$bin/probe:/probe:755" --copy "$hostile:/etc" \
    --text '/negative:for others only' --own /negative:0:1000:604 \
    --copy "$bin/probe:/sgid:2755" --own /sgid:0:3000:2755 --copy "$bin/probe:/suid:4755" \
    --copy "$bin/probe:/inheritable:755" \
    --xattr /inheritable:security.capability:0100000200000000fb0504800000000000000000 \
    --copy "$bin/probe:/permitted:755" \
    --xattr /permitted:security.capability:0100000201000000000000000000000000000000 \
    --mkdir /elsewhere --link /run/keel:/outward --link /proc/sys:/settings --link /proc/self:/self \
    --mkdir /usr/bin --mkdir /srv \
    --text "/usr/bin/tar:$snare" --own /usr/bin/tar:0:0:755 \
    --text "/usr/bin/cp:$snare" --own /usr/bin/cp:0:0:755 \
    --entrypoint /bin/sh --description 'tools for attacks from inside'

# Links at the paths of directories that the host provides.
image "$images/linked-proc" --base "$images/busybox" --layer --bare --mkdir /elsewhere \
    --link /elsewhere:/proc --entrypoint /bin/sh --description '/proc is a link'
image "$images/linked-sys" --base "$images/busybox" --layer --bare --mkdir /elsewhere \
    --link ../../elsewhere:/sys --entrypoint /bin/sh --description '/sys is a link'
image "$images/linked-dev" --base "$images/busybox" --layer --bare --mkdir /elsewhere \
    --link /elsewhere:/dev --entrypoint /bin/sh --description '/dev is a link'
image "$images/linked-dev-out" --base "$images/busybox" --layer --bare \
    --link /proc/1/root/run/keel:/dev --entrypoint /bin/sh --description '/dev is a link to the host'
image "$images/linked-null" --base "$images/busybox" --layer --bare \
    --link /proc/sys/kernel/core_pattern:/dev/null --link /proc/sysrq-trigger:/dev/console \
    --link /proc/sysrq-trigger:/dev/pts/0 --entrypoint /bin/sh \
    --description 'devices are links to what must not be written'

# Volumes and working directories at paths that the host creates or fills.
image "$images/volume-proc" --base "$images/busybox" --layer --bare --mkdir /elsewhere \
    --volume /proc --entrypoint /bin/sh --description '/proc is a volume'
image "$images/linked-volumes" --base "$images/busybox" --layer --bare \
    --link /run/keel/units:/copied --link ../../../../run/keel:/made \
    --volume /copied --volume /made/by-volume --entrypoint /bin/sh \
    --description 'volumes at links that lead out'
image "$images/linked-workdir" --base "$images/busybox" --layer --bare \
    --link /run/keel:/made --workdir /made/by-workdir --entrypoint /bin/sh \
    --description 'a working directory behind a link that leads out'
image "$images/workdir-fd" --base "$images/busybox" --layer --bare \
    --link /proc/self/fd/8:/srv --workdir /srv --entrypoint /bin/sh \
    --description 'a working directory that is an open descriptor'

# Users and groups.
image "$images/endless-group" --base "$images/busybox" --layer --bare --user web:1000 \
    --link /dev/zero:/etc/group --run-as web --entrypoint /bin/sh \
    --description '/etc/group has no end'
image "$images/huge-group" --base "$images/busybox" --layer --bare --user web:1000 \
    --copy "$made/two-mebibytes:/etc/group" --run-as web --entrypoint /bin/sh \
    --description '/etc/group has two mebibytes'

# shellcheck disable=SC2016
image "$images/labelled" --base "$images/busybox" --layer --bare --mkdir /elsewhere \
    --label 'RUN=touch /run/keel/by-label' --label 'INSTALL=/bin/sh -c "touch /run/keel/by-label"' \
    --label 'x=$(touch /run/keel/by-label)' --label 'y=`touch /run/keel/by-label`' \
    --label 'io.containers.autoupdate=registry' --label 'run.oci.hooks=/bin/touch' \
    --label 'org.freedesktop.cmd=;touch /run/keel/by-label;' --label '../../by-label=x' \
    --label 'z=
touch /run/keel/by-label' --entrypoint /bin/sh --description 'labels with commands'

# Programs that cannot be executed.
image "$images/programs" --base "$images/attacker" \
    --layer --bare --mkdir /directory --fifo /fifo --link /nowhere:/dangling --link loop:/loop \
    --text '/script:#!/bin/nowhere -e' --own /script:0:0:755 \
    --copy "$made/dos:/dos:755" --copy "$made/arm:/arm:755" \
    --text '/plain:#!/bin/sh' --text '/no-program:echo ran' --own /no-program:0:0:755 \
    --text '/private:#!/bin/sh' --own /private:0:0:700 \
    --link /run/keel:/workdir --text '/file:no directory' \
    --entrypoint /directory --cmd word --run-as nobody-such --workdir /file/below \
    --description 'programs that cannot be run'

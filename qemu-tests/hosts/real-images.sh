# shellcheck shell=bash disable=SC2154
# Images of common programs, for the test in real_images.rs; sourced by images.sh.
#
# Debian packages, reduced to the files that the program needs. The options here replace the packages'
# maintainer scripts (users, links, file capabilities).

real=$top/qemu-tests/hosts/real
lib=usr/lib/x86_64-linux-gnu

image "$images/debian" \
    --layer libc6 zlib1g libssl3 libcrypt1 libgcc-s1 libstdc++6 libcap2 libselinux1 libpcre2-8-0 \
    libacl1 libattr1 libgmp10 dash coreutils \
    --keep "$lib/*.so*" --keep 'usr/bin/*' --keep "usr/lib64/*" \
    --prune '*/libBrokenLocale.so*' --prune '*/libc_malloc_debug.so*' --prune '*/libmemusage.so*' \
    --prune '*/libnsl.so*' --prune '*/libnss_compat.so*' --prune '*/libnss_hesiod.so*' \
    --prune '*/libpcprofile.so*' --prune '*/libthread_db.so*' --prune "$lib/gconv/*" \
    --prune "$lib/engines-3/*" --prune "$lib/ossl-modules/*" --prune "$lib/audit/*" \
    --entrypoint /bin/sh \
    --description 'what the images of this file share: libraries, dash and coreutils'

# The parts of the Java run-time environment that a headless program needs; its modules are one file.
jvm=usr/lib/jvm/java-17-openjdk-amd64
image "$images/jvm" --base "$images/debian" \
    --layer openjdk-17-jre-headless libh2-java \
    --keep "$jvm/bin/java" --keep "$jvm/conf/*" --keep 'etc/java-17-openjdk/*' \
    --keep "$jvm/lib/jvm.cfg" --keep "$jvm/lib/modules" --keep "$jvm/lib/tzdb.dat" \
    --keep "$jvm/lib/libj[ail]*.so" --keep "$jvm/lib/libmanagement*.so" --keep "$jvm/lib/libn*.so" \
    --keep "$jvm/lib/libextnet.so" --keep "$jvm/lib/libverify.so" --keep "$jvm/lib/libzip.so" \
    --keep "$jvm/lib/server/libjvm.so" --keep "$jvm/lib/server/classes.jsa" \
    --keep 'usr/share/java/h2*.jar' --prune '*/libjavajpeg.so' \
    --link "/$jvm/bin/java:/usr/bin/java" --user app:1000:/home/app --own /home/app:1000:1000:755 \
    --run-as app --workdir /home/app --entrypoint java --cmd -version \
    --description 'OpenJDK 17 and the H2 database'

# The capability that is commonly given to node so that it can listen on port 80.
# (CAP_NET_BIND_SERVICE is number 10, effective; struct vfs_cap_data in linux/capability.h.)
image "$images/node" --base "$images/debian" \
    --layer nodejs libnode108 libbrotli1 libc-ares2 libicu72 libnghttp2-14 libuv1 node-acorn \
    node-cjs-module-lexer node-undici node-busboy node-xtend \
    --keep usr/bin/node --keep "$lib/*.so*" --keep 'usr/share/nodejs/acorn*/*' \
    --keep 'usr/share/nodejs/cjs-module-lexer/*' --keep 'usr/share/nodejs/undici/*' \
    --keep 'usr/share/nodejs/busboy/*' --keep 'usr/share/nodejs/streamsearch/*' \
    --keep 'usr/share/nodejs/xtend/*' --prune "$lib/libicutest*" --prune "$lib/libicutu*" \
    --prune "$lib/libicuio*" \
    --xattr /usr/bin/node:security.capability:0100000200040000000000000000000000000000 \
    --copy "$real/node/server.js:/srv/server.js" --user node:1000 --run-as node --workdir /srv \
    --entrypoint node --cmd server.js --expose 80/tcp \
    --description 'node 18 with a small web server'

dynload='usr/lib/python3.11/lib-dynload'
image "$images/python" --base "$images/debian" \
    --layer python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libexpat1 libffi8 libuuid1 \
    libbz2-1.0 liblzma5 libsqlite3-0 gunicorn python3-gunicorn python3-pkg-resources \
    --prune 'usr/share/*' --prune 'usr/lib/python3.11/test/*' --prune 'usr/lib/python3.11/lib2to3/*' \
    --prune 'usr/lib/python3.11/pydoc*' --prune "$dynload/_codecs_*" --prune "$dynload/*test*" \
    --prune "$dynload/_curses*" --prune "$dynload/_dbm*" --prune "$dynload/readline*" \
    --prune "$dynload/nis*" --prune "$dynload/_crypt*" --prune "$dynload/xx*" \
    --link python3.11:/usr/bin/python3 --copy "$real/python/app.py:/srv/app.py" \
    --user app:1000 --run-as app --workdir /srv --env PYTHONUNBUFFERED=1 \
    --entrypoint gunicorn --cmd --bind=0.0.0.0:8000 --cmd --workers=2 --cmd --preload \
    --cmd app:application --expose 8000/tcp \
    --description 'python 3.11 and gunicorn with a small application'

# Like the common redis image: root changes the owner of the data directory and then drops privileges.
image "$images/drops" --base "$images/debian" \
    --layer gosu util-linux redis-server redis-tools libatomic1 libjemalloc2 liblzf1 libsystemd0 \
    libgcrypt20 libgpg-error0 liblzma5 liblz4-1 libzstd1 libcap-ng0 \
    --keep usr/sbin/gosu --keep usr/bin/setpriv --keep usr/bin/redis-server \
    --keep usr/bin/redis-check-rdb --keep usr/bin/redis-cli --keep "$lib/*.so*" \
    --copy "$real/redis/start:/usr/local/bin/redis-start:755" --user redis:999:/data \
    --volume /data --workdir /data --entrypoint redis-start --cmd --save --cmd 60 --cmd 1 \
    --expose 6379/tcp \
    --description 'redis, which begins as root and drops that by itself (gosu, setpriv)'

image "$images/ssh" --base "$images/debian" \
    --layer openssh-server openssh-client libaudit1 libcap-ng0 libpam0g libcom-err2 libgssapi-krb5-2 \
    libkrb5-3 libk5crypto3 libkrb5support0 libkeyutils1 libsystemd0 libgcrypt20 libgpg-error0 \
    liblzma5 liblz4-1 libzstd1 libwrap0 libnsl2 libtirpc3 libedit2 libbsd0 libmd0 libtinfo6 \
    libfido2-1 libcbor0.8 libudev1 \
    --keep usr/sbin/sshd --keep usr/bin/ssh --keep usr/bin/ssh-keygen --keep 'etc/ssh/*' \
    --keep "$lib/*.so*" --prune etc/ssh/moduli \
    --copy "$real/ssh/sshd_config:/etc/ssh/sshd_config" --copy "$real/ssh/users:/etc" \
    --copy "$real/ssh/sshd-start:/usr/local/bin/sshd-start:755" \
    --copy "$real/ssh/login:/usr/local/bin/ssh-login:755" \
    --mkdir /home/visitor --volume /keys --entrypoint sshd-start --expose 22/tcp \
    --description 'OpenSSH: a server that separates its privileges, and a client'

# With the capability that the package's maintainer script gives it (CAP_NET_RAW, number 13, effective).
image "$images/ping" --base "$images/debian" \
    --layer iputils-ping libidn2-0 libunistring2 \
    --xattr /usr/bin/ping:security.capability:0100000200200000000000000000000000000000 \
    --user app:1000 --entrypoint ping --cmd -v --cmd -c1 --cmd 127.0.0.1 \
    --description 'ping with its file capability'

image "$images/tini" --base "$images/debian" \
    --layer tini --prune usr/bin/tini-static \
    --copy "$real/tini/start:/usr/local/bin/tini-start:755" \
    --entrypoint tini --entrypoint -- --cmd tini-start \
    --description 'tini as the first process'

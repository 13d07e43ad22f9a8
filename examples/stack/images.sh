# shellcheck shell=bash disable=SC2154
# The images of examples/stack; sourced by make-images.
#
# Debian packages without their maintainer scripts: the users, directories and links that those would
# create are listed here. Dependencies are listed by hand, so that an image holds only what its program
# needs; make-image fails if a shared library is missing.

images=$here/stack/images

# Shared by the other images; a host stores it once.
image "$images/base" \
    --layer libc6 zlib1g libssl3 libcrypt1 libgcc-s1 libstdc++6 libsystemd0 libcap2 libgcrypt20 \
    libgpg-error0 liblzma5 liblz4-1 libzstd1 busybox-static \
    --prune 'usr/lib/x86_64-linux-gnu/gconv/*' --prune 'usr/lib/x86_64-linux-gnu/engines-3/*' \
    --prune 'usr/lib/x86_64-linux-gnu/ossl-modules/*' --prune 'usr/share/gdb/*' \
    --prune 'usr/share/gcc/*' --prune 'usr/share/busybox*' \
    --prune '*/libBrokenLocale.so*' --prune '*/libc_malloc_debug.so*' --prune '*/libmemusage.so*' \
    --prune '*/libnsl.so*' --prune '*/libnss_compat.so*' --prune '*/libnss_hesiod.so*' \
    --prune '*/libpcprofile.so*' --prune '*/libthread_db.so*' \
    --link busybox:/bin/sh --link busybox:/bin/ls --link busybox:/bin/cat \
    --entrypoint /bin/sh \
    --description 'the shared libraries of examples/stack and a shell'

image "$images/nginx" --base "$images/base" \
    --layer nginx nginx-common libpcre2-8-0 \
    --keep usr/sbin/nginx --keep etc/nginx/mime.types --keep 'usr/lib/x86_64-linux-gnu/*.so*' \
    --copy "$here/stack/nginx/nginx.conf:/etc/nginx/nginx.conf" \
    --user www-data:33:/var/www \
    --entrypoint /usr/sbin/nginx --cmd -e --cmd stderr --cmd -g --cmd 'daemon off;' \
    --expose 80/tcp --stop-signal SIGQUIT \
    --description 'nginx, a proxy in front of app'

image "$images/redis" --base "$images/base" \
    --layer redis-server redis-tools libatomic1 libjemalloc2 liblzf1 \
    --prune 'etc/*' --prune 'usr/bin/redis-benchmark' --prune 'usr/bin/redis-check-aof' \
    --prune 'usr/bin/redis-cli' \
    --copy "$here/stack/redis/redis.conf:/etc/redis/redis.conf" \
    --user redis:101 --run-as redis \
    --entrypoint /usr/bin/redis-server --cmd /etc/redis/redis.conf \
    --expose 6379/tcp \
    --description 'redis, in memory only'

# Of the server's 200 files in bin and lib, only those that create and run a UTF-8 database. The
# just-in-time compiler would add 120 MB of LLVM.
image "$images/postgres" --base "$images/base" \
    --layer postgresql-15 postgresql-client-15 libpq5 libicu72 libxml2 libpam0g libaudit1 libcap-ng0 \
    libldap-2.5-0 libsasl2-2 libgnutls30 libp11-kit0 libffi8 libidn2-0 libunistring2 libtasn1-6 \
    libnettle8 libhogweed6 libgmp10 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libcom-err2 \
    libkrb5support0 libkeyutils1 tzdata \
    --keep 'usr/lib/x86_64-linux-gnu/*.so*' --keep 'usr/share/zoneinfo/*' \
    --keep 'usr/share/postgresql/15/*' --keep 'usr/lib/postgresql/15/bin/postgres' \
    --keep 'usr/lib/postgresql/15/bin/initdb' --keep 'usr/lib/postgresql/15/bin/pg_isready' \
    --keep 'usr/lib/postgresql/15/lib/plpgsql.so' \
    --keep 'usr/lib/postgresql/15/lib/dict_snowball.so' \
    --keep 'usr/lib/postgresql/15/lib/libpqwalreceiver.so' \
    --keep 'usr/lib/postgresql/15/lib/pgoutput.so' \
    --prune 'usr/share/zoneinfo/right/*' --prune 'usr/share/zoneinfo/posix/*' \
    --prune 'usr/share/postgresql/15/man/*' --prune 'usr/share/postgresql/15/locale/*' \
    --layer --user postgres:70:/var/lib/postgresql \
    --link busybox:/bin/su --link busybox:/bin/mkdir --link busybox:/bin/chown \
    --link busybox:/bin/chmod --link busybox:/bin/rm --link busybox:/bin/mv \
    --own /var/lib/postgresql:70:70 --own /var/lib/postgresql/data:70:70:700 \
    --own /run/postgresql:70:70:2775 \
    --copy "$here/stack/db/start:/usr/local/bin/start:755" \
    --copy "$here/stack/db/postgresql.conf:/etc/postgresql/postgresql.conf" \
    --copy "$here/stack/db/pg_hba.conf:/etc/postgresql/pg_hba.conf" \
    --entrypoint /usr/local/bin/start --volume /var/lib/postgresql/data \
    --expose 5432/tcp --stop-signal SIGINT \
    --description 'PostgreSQL 15 with one database, app'

# A static program needs no base image.
build stack-app
image "$images/app" \
    --layer --copy "$bin/stack-app:/bin/stack-app:755" --user app:1000 --run-as 1000:1000 \
    --entrypoint /bin/stack-app --cmd serve --expose 8000/tcp --stop-signal SIGKILL \
    --description 'stack-app: visits in redis, a guest book in PostgreSQL'

# shellcheck shell=bash disable=SC2154
# The images of examples/hello; sourced by make-images.

# One static program that acts as some three hundred commands: a userland in 2 MB. The image links
# only the commands that the units use.
image "$here/hello/images/busybox" \
    --layer busybox-static --prune 'usr/share/*' \
    --link busybox:/bin/sh --link busybox:/bin/date --link busybox:/bin/sleep \
    --link busybox:/bin/cat --link busybox:/bin/sed --link busybox:/bin/uname \
    --link busybox:/bin/cp --link busybox:/bin/mv --link busybox:/bin/httpd \
    --entrypoint /bin/sh \
    --description 'busybox, with a shell as its entry point'

# The same layer, which is stored once, with the pages on top.
image "$here/hello/images/web" \
    --base "$here/hello/images/busybox" \
    --layer --copy "$here/hello/web:/srv/pages" --copy "$here/hello/greet:/usr/local/bin/greet:755" \
    --mkdir /srv/www --user www:33:/srv/www \
    --entrypoint /bin/httpd --cmd -f --cmd -v --cmd -p --cmd 80 --cmd -u --cmd www:www --cmd -h --cmd /srv/www \
    --expose 80/tcp --stop-signal SIGKILL \
    --description 'busybox httpd and the pages of examples/hello'

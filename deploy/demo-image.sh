#!/bin/bash
# Makes the images ofop-demo:1 and ofop-demo:2 on the engine that DOCKER_HOST names: busybox and a script, two
# megabytes, no image registry needed. The script writes a line now and then, serves a page if PORT is set, and
# ends at once when it is told to.
set -euo pipefail

busybox=$(command -v busybox) || { echo "busybox is missing: apt-get install busybox-static" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

mkdir -p "$folder/bin" "$folder/www" "$folder/tmp"
chmod 1777 "$folder/tmp"
cp "$busybox" "$folder/bin/busybox"
for name in sh sleep httpd date echo env hostname; do ln -s busybox "$folder/bin/$name"; done
cat > "$folder/bin/demo" <<'SCRIPT'
#!/bin/sh
trap 'exit 0' TERM INT
if [ -n "$PORT" ]; then httpd -p "$PORT" -h /www; fi
while true; do
    echo "$(date) $APP_UUID ${MESSAGE:-works}"
    sleep "${INTERVAL:-60}" &
    wait $!
done
SCRIPT
chmod 755 "$folder/bin/demo"
for version in 1 2; do
    echo "<h1>ofop-demo:$version</h1>" > "$folder/www/index.html"
    if ! docker image inspect "ofop-demo:$version" > /dev/null 2>&1; then
        tar -C "$folder" --owner=0 --group=0 -c . | docker import -c 'CMD ["/bin/demo"]' - "ofop-demo:$version" > /dev/null
        echo "made image ofop-demo:$version"
    fi
done

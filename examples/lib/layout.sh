# shellcheck shell=bash
# Sourced by make-image, which sets the variables that are not set here.
# shellcheck disable=SC2154
#
# Writes the OCI layout around the layers: configuration, manifest, index.

# Prints a JSON string. Control characters other than newline and tab are refused.
json() {
    local text=$1
    case $text in *[$'\x01'-$'\x08'$'\x0b'-$'\x1f']*) die "control character in ${text@Q}" ;; esac
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//$'\n'/\\n}
    text=${text//$'\t'/\\t}
    printf '"%s"' "$text"
}

# Prints a JSON array of strings.
json_array() {
    local item separator=''
    printf '['
    for item in "$@"; do
        printf '%s' "$separator"
        json "$item"
        separator=,
    done
    printf ']'
}

# Prints a JSON object with the given keys and empty objects as values: how the image configuration
# represents sets (config.md, "Volumes").
json_set() {
    local item separator=''
    printf '{'
    for item in "$@"; do
        printf '%s' "$separator"
        json "$item"
        printf ':{}'
        separator=,
    done
    printf '}'
}

# Prints a JSON object of strings from NAME=VALUE arguments.
json_object() {
    local item separator=''
    printf '{'
    for item in "$@"; do
        printf '%s' "$separator"
        json "${item%%=*}"
        printf ':'
        json "${item#*=}"
        separator=,
    done
    printf '}'
}

# The creation time of everything, as RFC 3339.
created() {
    date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ
}

print_config() {
    local layer separator diff
    # `origin` takes the rest of the line.
    printf '{"created":"%s","architecture":"amd64","os":"linux",\n"config":{"Env":' "$(created)"
    json_array "${env[@]}"
    if [ ${#entrypoint[@]} -gt 0 ]; then printf ',"Entrypoint":%s' "$(json_array "${entrypoint[@]}")"; fi
    if [ ${#cmd[@]} -gt 0 ]; then printf ',"Cmd":%s' "$(json_array "${cmd[@]}")"; fi
    if [ -n "$workdir" ]; then printf ',"WorkingDir":%s' "$(json "$workdir")"; fi
    if [ -n "$run_as" ]; then printf ',"User":%s' "$(json "$run_as")"; fi
    if [ -n "$stop_signal" ]; then printf ',"StopSignal":%s' "$(json "$stop_signal")"; fi
    if [ ${#volumes[@]} -gt 0 ]; then printf ',"Volumes":%s' "$(json_set "${volumes[@]}")"; fi
    if [ ${#expose[@]} -gt 0 ]; then printf ',"ExposedPorts":%s' "$(json_set "${expose[@]}")"; fi
    if [ ${#labels[@]} -gt 0 ]; then printf ',"Labels":%s' "$(json_object "${labels[@]}")"; fi
    printf '},\n"rootfs":{"type":"layers","diff_ids":['
    separator=''
    for layer in "${layers[@]}"; do
        read -r _ _ diff _ <<<"$layer"
        printf '%s\n"sha256:%s"' "$separator" "$diff"
        separator=,
    done
    printf ']},\n"history":['
    separator=''
    for layer in "${layers[@]}"; do
        printf '%s\n{"created":"%s","created_by":%s}' "$separator" "$(created)" \
            "$(json "${layer#* * * * }")"
        separator=,
    done
    printf ']}\n'
}

# One layer per line, as read_base expects.
print_manifest() {
    local layer separator='' digest size type
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",\n'
    printf '"config":{"mediaType":"application/vnd.oci.image.config.v1+json",'
    printf '"digest":"sha256:%s","size":%d},\n"layers":[' "$1" "$2"
    for layer in "${layers[@]}"; do
        read -r digest size _ type _ <<<"$layer"
        printf '%s\n{"mediaType":"%s","digest":"sha256:%s","size":%d}' \
            "$separator" "$type" "$digest" "$size"
        separator=,
    done
    printf ']%s}\n' "${description:+,\"annotations\":{\"org.opencontainers.image.description\":$(json "$description")\}}"
}

# Moves a file to the blobs directory and prints its digest and size.
store() {
    local digest
    digest=$(sha256sum "$1" | cut -d' ' -f1)
    printf '%s %s' "$digest" "$(stat -c %s "$1")"
    mv "$1" "$work/blobs/$digest"
}

write_layout() {
    local target=$1 config manifest layer
    print_config >"$work/config"
    config=$(store "$work/config")
    # shellcheck disable=SC2086 # digest and size
    print_manifest $config >"$work/manifest"
    manifest=$(store "$work/manifest")

    # Written next to its final path and renamed, so that readers never see half a layout.
    local fresh=$target.new
    rm -rf "$fresh"
    mkdir -p "$fresh/blobs/sha256"
    printf '{"imageLayoutVersion":"1.0.0"}\n' >"$fresh/oci-layout"
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",\n"manifests":[' \
        >"$fresh/index.json"
    printf '{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d,' \
        "${manifest% *}" "${manifest#* }" >>"$fresh/index.json"
    printf '"platform":{"architecture":"amd64","os":"linux"}}]}\n' >>"$fresh/index.json"
    for layer in "${layers[@]}" "$config" "$manifest"; do
        layer=${layer%% *}
        # Hard-links the layers of a base image where the file system allows it.
        if [ -n "$base" ] && [ -e "$base/blobs/sha256/$layer" ]; then
            ln "$base/blobs/sha256/$layer" "$fresh/blobs/sha256/$layer" 2>/dev/null ||
                cp "$base/blobs/sha256/$layer" "$fresh/blobs/sha256/$layer"
        else
            cp -L "$work/blobs/$layer" "$fresh/blobs/sha256/$layer"
        fi
    done
    rm -rf "$target"
    mv "$fresh" "$target"
}

# Prints the hexadecimal digest of the first `"digest":"sha256:…"` in the input.
first_digest() {
    grep -m1 -o '"digest":"sha256:[0-9a-f]\{64\}"' | cut -c18-81
}

# Reads the layers of an image that this program built. The configuration is not inherited.
read_base() {
    [ ${#layers[@]} -eq 0 ] || die '--base comes before the first layer'
    [ -e "$1/index.json" ] || die "--base $1: no image there"
    local blobs=$1/blobs/sha256 manifest config line digests=() diffs=() origins=() types=()
    manifest=$(first_digest <"$1/index.json")
    config=$(first_digest <"$blobs/$manifest")
    mapfile -t digests < <(sed -n '/^{"mediaType":.*image\.layer/p' "$blobs/$manifest" |
        grep -o 'sha256:[0-9a-f]\{64\}' | cut -c8-)
    mapfile -t types < <(sed -n 's/^{"mediaType":"\([^"]*image\.layer[^"]*\)".*/\1/p' "$blobs/$manifest")
    mapfile -t diffs < <(sed -n 's/^"sha256:\([0-9a-f]\{64\}\)".*/\1/p' "$blobs/$config")
    mapfile -t origins < <(sed -n 's/^{"created":.*"created_by":"\(.*\)"}.*/\1/p' "$blobs/$config")
    mkdir -p "$work/blobs"
    for line in "${!digests[@]}"; do
        local digest=${digests[line]}
        ln -s "$(cd "$blobs" && pwd)/$digest" "$work/blobs/$digest"
        layers+=("$digest $(stat -c %s "$blobs/$digest") ${diffs[line]} ${types[line]} ${origins[line]}")
    done
}

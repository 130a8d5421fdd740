#!/usr/bin/env bash
# Builds the image of the pipeline's steps (pipelines/Dockerfile) and pushes it.
#
#   pipelines/build_image.sh IMAGE [--no-push] [docker build options]
#
# IMAGE is what run_kubeflow gets as --image: HOST/NAME:TAG. DOCKER names another program than docker (podman).
# Exit codes: 0 done, 2 wrong usage or something is missing (one line says what), 1 the build or the push failed.
set -euo pipefail

fail() {
    echo "error: $2" >&2
    exit "$1"
}

image=${1:-}
[[ -n $image && $image != -* ]] || fail 2 "no image named; usage: pipelines/build_image.sh HOST/NAME:TAG [--no-push] [docker build options]"
shift
push=yes
if [[ ${1:-} == --no-push ]]; then
    push=no
    shift
fi

name=${image##*/}
[[ $name == *:* && $name != *: ]] || fail 2 "$image has no tag; give one that is new with every build, such as $image:$(date -u +%Y%m%d), since nodes keep an image by its name"
[[ ${name##*:} != latest ]] || fail 2 "$image: nodes keep an image by its name and would run an old latest; give it a tag of its own"

docker=${DOCKER:-docker}
command -v "$docker" > /dev/null || fail 2 "$docker isn't installed; install it, or name another with DOCKER=podman"
"$docker" info > /dev/null 2>&1 || fail 2 "$docker doesn't answer; start its service, or join the group that may use it"

# podman's own format has no HEALTHCHECK and no SHELL, so a failure in a pipe would go unseen.
format=()
[[ $("$docker" --version) != *podman* ]] || format=(--format docker)

cd "$(dirname "${BASH_SOURCE[0]}")/.."
"$docker" build "${format[@]}" --file pipelines/Dockerfile --tag "$image" "$@" . || fail 1 "the build of $image failed; its last lines say where"
# A step that can't import its entry point would only show on the cluster.
"$docker" run --rm --network none --entrypoint python "$image" -c \
    'import tf_hqgnn.tfx.kubeflow_step, tf_hqgnn.tfx.trainer_component, scann' > /dev/null \
    || fail 1 "$image was built, but what the steps run can't be imported in it"
if [[ $push == yes ]]; then
    "$docker" push "$image" || fail 1 "$image was built, but not pushed; is \`$docker login\` done for its host?"
    echo "built and pushed $image"
else
    echo "built $image"
fi

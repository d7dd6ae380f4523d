#!/usr/bin/env bash
# Push a folder of plain notebooks to the branch `notebooks` of `origin`, which holds nothing else.
set -euo pipefail
message="Make the notebooks of $(git rev-parse --short HEAD)"
GIT_DIR=$(git rev-parse --absolute-git-dir)
GIT_INDEX_FILE=$(mktemp -u)
GIT_WORK_TREE=$(realpath "${1:?which folder of notebooks?}")
export GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE

cd "$GIT_WORK_TREE"
git add --force .
identity=(-c user.name=publish -c user.email=publish@users.noreply.github.com)
commit=$(git "${identity[@]}" commit-tree "$(git write-tree)" -m "$message")
rm -f "$GIT_INDEX_FILE"
git push --quiet --force origin "$commit:refs/heads/notebooks"

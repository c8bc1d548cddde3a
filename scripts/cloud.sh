# shellcheck shell=bash
# Source it from the folder of the project. It starts a local cloud with a new state, sets AWS_ENDPOINT_URL and the other
# variables for AWS's tools, and stops the local cloud when the script ends.
cargo build --quiet --package unicorn --bin unicorn
state=$(mktemp -d)
cargo unicorn up --port 0 --aws-port 0 --fresh --state-dir "$state" >"$state.log" 2>&1 &
cloud=$!
stop() {
    status=$?
    kill "$cloud" 2>/dev/null || true
    wait "$cloud" 2>/dev/null || true
    if [ "$status" -ne 0 ]; then tail -n 50 "$state.log"; fi
    rm -rf "$state" "$state.log"
}
trap stop EXIT

# No time limit: the first build of the functions takes minutes, and a cloud that cannot start ends by itself.
until grep -q '^Ready' "$state.log" && [ -f "$state/local.json" ]; do
    kill -0 "$cloud" 2>/dev/null || { echo "the local cloud did not start"; exit 1; }
    sleep 0.1
done
AWS_ENDPOINT_URL=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["endpoint_url"])' "$state/local.json")
export AWS_ENDPOINT_URL AWS_DEFAULT_REGION=us-east-1 AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any

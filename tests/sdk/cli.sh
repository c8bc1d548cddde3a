#!/usr/bin/env bash
# The AWS command line (PyPI: awscli) as an operator types it. Reads AWS_ENDPOINT_URL; `aws` is
# taken from the PATH. Ends at the first thing that is not as it must be.
set -euo pipefail
: "${AWS_ENDPOINT_URL:?is not set: this does not run against AWS itself}"
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1} AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-any}
export AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-any} AWS_PAGER="" AWS_EC2_METADATA_DISABLED=true
stack=${STACK_NAME:-uni-prop-local}

fail() { echo "FAILED: $*" >&2; exit 1; }
# have WHAT PATTERN TEXT: the text must hold the pattern.
have() { grep -qE -- "$2" <<<"$3" || fail "$1: no '$2' in: ${3:0:2000}"; echo "ok  $1"; }
output() { aws cloudformation describe-stacks --stack-name "$stack" --output text \
    --query "Stacks[0].Outputs[?OutputKey=='$1'].OutputValue"; }
# soon WHAT PATTERN COMMAND...: the command's answer must hold the pattern within half a minute.
soon() {
    local what=$1 pattern=$2 answer=""; shift 2
    for _ in $(seq 60); do
        answer=$("$@")
        if grep -qE -- "$pattern" <<<"$answer"; then echo "ok  $what"; return; fi
        sleep 0.5
    done
    fail "$what: no '$pattern' in: ${answer:0:2000}"
}

have "the stack's outputs" ApprovalStateMachineArn "$(aws cloudformation describe-stacks --stack-name "$stack" --output table)"
have "its resources" AWS::CloudFormation::Stack "$(aws cloudformation list-stack-resources --stack-name "$stack")"
have "an unknown stack" "ValidationError.*does not exist" "$(aws cloudformation describe-stacks --stack-name nobodys 2>&1 || true)"

contracts=$(output ContractsTableName) listings=$(output ListingsTableName) machine=$(output ApprovalStateMachineArn)
have "the tables" "$contracts" "$(aws dynamodb list-tables)"
city=cli-$(date +%s)-$$ id=usa/cli/main-street/1
id=usa/$city/main-street/1
answer=$(curl -sS -i -X POST "$(output ContractsApiUrl)/contracts" -H 'Content-Type: application/json' -d \
    "{\"property_id\":\"$id\",\"seller_name\":\"Smith & Sons\",\"address\":{\"country\":\"USA\",\"city\":\"$city\",\"street\":\"Main Street\",\"number\":1}}")
have "a contract is taken" "200 OK" "$answer"
soon "a scan finds it" '"DRAFT"' aws dynamodb scan --table-name "$contracts" --filter-expression 'property_id = :id' \
    --expression-attribute-values "{\":id\":{\"S\":\"$id\"}}"
have "a description of a table" ACTIVE "$(aws dynamodb describe-table --table-name "$listings" --query Table.TableStatus)"
aws dynamodb wait table-exists --table-name "$contracts"

group=$(output ContractsCatchAllLogGroupArn); group=${group#*:log-group:}; group=${group%:\*}
soon "the catch-all log group" ContractStatusChanged aws logs filter-log-events --log-group-name "$group" \
    --filter-pattern "{ \$.detail.property_id = \"$id\" }"
stream=$(aws logs describe-log-streams --log-group-name "$group" --order-by LastEventTime --descending --query 'logStreams[0].logStreamName' --output text)
have "a log stream" ContractStatusChanged "$(aws logs get-log-events --log-group-name "$group" --log-stream-name "$stream" --start-from-head)"

have "the state machines" "$machine" "$(aws stepfunctions list-state-machines)"
input="{\"version\":\"0\",\"id\":\"$city\",\"detail-type\":\"PublicationApprovalRequested\",\"source\":\"unicorn-web\",\"account\":\"1\",\"time\":\"2026-11-23T18:22:06Z\",\"region\":\"us-east-1\",\"resources\":[\"$id\"],\"detail\":{\"property_id\":\"$id\",\"address\":{\"country\":\"usa\",\"city\":\"$city\",\"street\":\"main-street\",\"number\":1},\"status\":\"PENDING\",\"description\":\"A lovely home.\",\"images\":[\"usa/anytown/main-street-111.png\"],\"contract\":\"sale\",\"listprice\":1,\"currency\":\"USD\"}}"
execution=$(aws stepfunctions start-execution --state-machine-arn "$machine" --name "$city" --input "$input" --query executionArn --output text)
have "the executions" "$execution" "$(aws stepfunctions list-executions --state-machine-arn "$machine" --status-filter RUNNING)"
soon "their history" '"name": "WaitForContractApproval"' aws stepfunctions get-execution-history --execution-arn "$execution"
aws stepfunctions stop-execution --execution-arn "$execution" --cause "the test is over" >/dev/null
have "an execution that was stopped" ABORTED "$(aws stepfunctions describe-execution --execution-arn "$execution")"

# Version 1 of the command line sends SQS calls in us-east-1 to queue.amazonaws.com, whatever
# AWS_ENDPOINT_URL says (awscli/customizations/overridesslcommonname.py); the option is heard.
queue=$(aws sqs --endpoint-url "$AWS_ENDPOINT_URL" create-queue --queue-name "$city" --query QueueUrl --output text)
aws sqs --endpoint-url "$AWS_ENDPOINT_URL" send-message --queue-url "$queue" --message-body 'a & b' >/dev/null
have "a message" "a & b" "$(aws sqs --endpoint-url "$AWS_ENDPOINT_URL" receive-message --queue-url "$queue" --wait-time-seconds 5 --attribute-names All)"
have "the attributes of the stack's queue" RedrivePolicy "$(aws sqs --endpoint-url "$AWS_ENDPOINT_URL" get-queue-attributes --queue-url "$(output ContractsIngestQueueUrl)" --attribute-names All)"
aws sqs --endpoint-url "$AWS_ENDPOINT_URL" delete-queue --queue-url "$queue"
have "a queue that is gone" NonExistentQueue "$(aws sqs --endpoint-url "$AWS_ENDPOINT_URL" get-queue-attributes --queue-url "$queue" 2>&1 || true)"

have "the buses" "$(output WebEventBusName)" "$(aws events list-event-buses)"
have "the rules" catchall "$(aws events list-rules --event-bus-name "$(output WebEventBusName)")"
have "an event" '"FailedEntryCount": 0' "$(aws events put-events --entries "[{\"Source\":\"cli\",\"DetailType\":\"T\",\"Detail\":\"{}\",\"EventBusName\":\"$(output WebEventBusName)\"}]")"

bucket=$(output ImagesBucketName) file=$(mktemp); trap 'rm -f "$file" "$file.back"' EXIT
echo image >"$file"
aws s3 cp "$file" "s3://$bucket/$city/a b.png" >/dev/null
have "the images" "a b.png" "$(aws s3 ls "s3://$bucket/$city/")"
aws s3 cp "s3://$bucket/$city/a b.png" "$file.back" >/dev/null
cmp "$file" "$file.back" || fail "an image came back changed"
aws s3 rm "s3://$bucket/$city/" --recursive >/dev/null
have "an image that is gone" "^$" "$(aws s3 ls "s3://$bucket/$city/" || true)"

function=$(aws lambda list-functions --query 'Functions[].FunctionName' --output text | tr '\t' '\n' | grep contracts-ingest)
have "an invocation" '"StatusCode": 200' "$(aws lambda invoke --function-name "$function" --payload '{"Records":[]}' "$file")"
have "its answer" batchItemFailures "$(cat "$file")"
have "the caller" Account "$(aws sts get-caller-identity)"
have "what is not emulated" emulated "$(aws stepfunctions list-activities 2>&1 || true)"
echo "The command line was answered."

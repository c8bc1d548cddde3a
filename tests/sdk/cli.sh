#!/usr/bin/env bash
# The AWS command line as an operator types it, in version 1 (PyPI: awscli) and in version 2.
# Reads AWS_ENDPOINT_URL; the command is the first argument, or `aws` on the PATH. Ends at the
# first thing that is not as it must be.
set -euo pipefail
: "${AWS_ENDPOINT_URL:?is not set: this does not run against AWS itself}"
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-us-east-1} AWS_ACCESS_KEY_ID=${AWS_ACCESS_KEY_ID:-any}
export AWS_SECRET_ACCESS_KEY=${AWS_SECRET_ACCESS_KEY:-any} AWS_PAGER="" AWS_EC2_METADATA_DISABLED=true
stack=${STACK_NAME:-uni-prop-local}
cli=${1:-aws}

endpoint=() raw=()
version=$("$cli" --version 2>&1 | sed -E 's|aws-cli/([0-9.]+).*|\1|')
case $version in
1.*) ;;
# Before 2.13 the variable is not heard; bytes are taken as base64 unless told otherwise.
2.[0-9].* | 2.1[0-2].*) endpoint=(--endpoint-url "$AWS_ENDPOINT_URL") raw=(--cli-binary-format raw-in-base64-out) ;;
*) raw=(--cli-binary-format raw-in-base64-out) ;;
esac
aws() { command "$cli" "${endpoint[@]}" "$@"; }
# Version 1 sends SQS calls in us-east-1 to queue.amazonaws.com, whatever AWS_ENDPOINT_URL says
# (awscli/customizations/overridesslcommonname.py); the option is heard.
sqs() { command "$cli" --endpoint-url "$AWS_ENDPOINT_URL" sqs "$@"; }

fail() { echo "FAILED: $*" >&2; exit 1; }
# have WHAT PATTERN TEXT: the text must hold the pattern.
have() { grep -qE -- "$2" <<<"$3" || fail "$1: no '$2' in: ${3:0:2000}"; echo "ok  $1"; }
# refused WHAT PATTERN COMMAND...: the command must fail, and say so.
refused() {
    local what=$1 pattern=$2 answer; shift 2
    if answer=$("$@" 2>&1); then fail "$what: it was answered: ${answer:0:2000}"; fi
    have "$what" "$pattern" "$answer"
}
# soon WHAT PATTERN COMMAND...: the command's answer must hold the pattern within half a minute.
soon() {
    local what=$1 pattern=$2 answer="" end=$((SECONDS + 30)); shift 2
    while [ $SECONDS -lt $end ]; do
        answer=$("$@")
        if grep -qE -- "$pattern" <<<"$answer"; then echo "ok  $what"; return; fi
        sleep 0.5
    done
    fail "$what: no '$pattern' in: ${answer:0:2000}"
}
outputs=$(aws cloudformation describe-stacks --stack-name "$stack" --query 'Stacks[0].Outputs[].[OutputKey,OutputValue]' --output text)
output() { awk -v key="$1" '$1 == key { print $2 }' <<<"$outputs"; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
echo "The command line is $version."

have "the stack's outputs" ApprovalStateMachineArn "$(aws cloudformation describe-stacks --stack-name "$stack" --output table)"
have "its resources" AWS::CloudFormation::Stack "$(aws cloudformation list-stack-resources --stack-name "$stack")"
have "one of them" AWS::S3::Bucket "$(aws cloudformation describe-stack-resources --stack-name "$stack" --logical-resource-id ImagesBucket --query 'StackResources[].ResourceType' --output text)"
aws cloudformation wait stack-create-complete --stack-name "$stack"
refused "an unknown stack" "ValidationError.*does not exist" aws cloudformation describe-stacks --stack-name nobodys

contracts=$(output ContractsTableName) listings=$(output ListingsTableName) machine=$(output ApprovalStateMachineArn)
have "the tables" "$contracts" "$(aws dynamodb list-tables)"
city=cli-$(date +%s)-$$
id=usa/$city/main-street/1
answer=$(curl -sS -i -X POST "$(output ContractsApiUrl)/contracts" -H 'Content-Type: application/json' -d \
    "{\"property_id\":\"$id\",\"seller_name\":\"Smith & Sons\",\"address\":{\"country\":\"USA\",\"city\":\"$city\",\"street\":\"Main Street\",\"number\":1}}")
have "a contract is taken" "200 OK" "$answer"
soon "a scan finds it" '"DRAFT"' aws dynamodb scan --table-name "$contracts" --filter-expression 'property_id = :id' \
    --expression-attribute-values "{\":id\":{\"S\":\"$id\"}}"
have "the item by its key" "^DRAFT$" "$(aws dynamodb get-item --table-name "$contracts" --key "{\"property_id\":{\"S\":\"$id\"}}" --query Item.contract_status.S --output text)"
have "a description of a table" ACTIVE "$(aws dynamodb describe-table --table-name "$listings" --query Table.TableStatus)"
aws dynamodb wait table-exists --table-name "$contracts"
refused "an unknown table" "ResourceNotFoundException.*Table: nobodys not found" aws dynamodb describe-table --table-name nobodys
have "a scan in pages" '^2$' "$(aws dynamodb scan --table-name "$listings" --page-size 1 --max-items 2 --query 'length(Items)')"

group=$(output ContractsCatchAllLogGroupArn); group=${group#*:log-group:}; group=${group%:\*}
soon "the catch-all log group" ContractStatusChanged aws logs filter-log-events --log-group-name "$group" \
    --filter-pattern "{ \$.detail.property_id = \"$id\" }"
stream=$(aws logs describe-log-streams --log-group-name "$group" --order-by LastEventTime --descending --no-paginate --query 'logStreams[0].logStreamName' --output text)
have "a log stream" ContractStatusChanged "$(aws logs get-log-events --log-group-name "$group" --log-stream-name "$stream" --start-from-head)"
if [[ $version == 2.* ]]; then
    have "the tail of a log" "^20.*T.* \{.*$id" "$(aws logs tail "$group" --since 1h --format short)"
    have "the tail that a pattern finds" "$id" "$(aws logs tail "$group" --since 1h --filter-pattern "{ \$.detail.property_id = \"$id\" }")"
    # Follows until it is ended; what comes meanwhile is shown.
    : >"$work/tail"
    PYTHONUNBUFFERED=1 timeout 60 "$cli" "${endpoint[@]}" logs tail "$group" --since 1m --follow >"$work/tail" & tail=$!
    soon "a tail that follows" "$id" cat "$work/tail"
    curl -sS -o /dev/null -X PUT "$(output ContractsApiUrl)/contracts" -H 'Content-Type: application/json' -d "{\"property_id\":\"$id\"}"
    soon "what is new in it" "$id.*APPROVED" cat "$work/tail"
    kill "$tail"
fi

have "the state machines" "$machine" "$(aws stepfunctions list-state-machines)"
input="{\"version\":\"0\",\"id\":\"$city\",\"detail-type\":\"PublicationApprovalRequested\",\"source\":\"unicorn-web\",\"account\":\"1\",\"time\":\"2026-11-23T18:22:06Z\",\"region\":\"us-east-1\",\"resources\":[\"$id\"],\"detail\":{\"property_id\":\"$id\",\"address\":{\"country\":\"usa\",\"city\":\"$city\",\"street\":\"main-street\",\"number\":1},\"status\":\"PENDING\",\"description\":\"A terrible, ugly and dirty ruin; the worst house in town.\",\"images\":[\"usa/anytown/main-street-111.png\"],\"contract\":\"sale\",\"listprice\":1,\"currency\":\"USD\"}}"
execution=$(aws stepfunctions start-execution --state-machine-arn "$machine" --name "$city" --input "$input" --query executionArn --output text)
have "the executions" "$execution" "$(aws stepfunctions list-executions --state-machine-arn "$machine" --max-items 5)"
soon "the end of one" SUCCEEDED aws stepfunctions describe-execution --execution-arn "$execution"
have "its history" '"name": "Declined"' "$(aws stepfunctions get-execution-history --execution-arn "$execution")"
refused "stopping it then" "ExecutionDoesNotExist" aws stepfunctions stop-execution --execution-arn "$execution-nobodys"

queue=$(sqs create-queue --queue-name "$city" --attributes VisibilityTimeout=7 --query QueueUrl --output text)
have "a queue by its name" "$queue" "$(sqs get-queue-url --queue-name "$city")"
sqs send-message --queue-url "$queue" --message-body 'a & b' --message-attributes '{"N":{"DataType":"Number","StringValue":"42"}}' >/dev/null
have "a batch" '"Failed"' "$(sqs send-message-batch --queue-url "$queue" --entries Id=1,MessageBody=x,DelaySeconds=900 Id=2,MessageBody=y,DelaySeconds=901)"
received=$(sqs receive-message --queue-url "$queue" --wait-time-seconds 5 --attribute-names All --message-attribute-names All)
have "a message" '"Body": "a & b"' "$received"
have "its attributes" '"StringValue": "42"' "$received"
have "its receive count" '"ApproximateReceiveCount": "1"' "$received"
sqs delete-message --queue-url "$queue" --receipt-handle "$(sed -nE 's/.*"ReceiptHandle": "(.*)",/\1/p' <<<"$received")"
have "the attributes of the stack's queue" RedrivePolicy "$(sqs get-queue-attributes --queue-url "$(output ContractsIngestQueueUrl)" --attribute-names All)"
have "a dead-letter queue without letters" '^0$' "$(sqs get-queue-attributes --queue-url "$(output ContractsIngestDLQUrl)" --attribute-names ApproximateNumberOfMessages --query Attributes.ApproximateNumberOfMessages --output text)"
have "whose dead letters it gets" "$(output ContractsIngestQueueUrl)" "$(sqs list-dead-letter-source-queues --queue-url "$(output ContractsIngestDLQUrl)")"
sqs tag-queue --queue-url "$queue" --tags Owner=me
have "the tags" '"Owner": "me"' "$(sqs list-queue-tags --queue-url "$queue")"
have "the queues" "$queue" "$(sqs list-queues --queue-name-prefix "$city")"
sqs delete-queue --queue-url "$queue"
refused "a queue that is gone" NonExistentQueue sqs get-queue-attributes --queue-url "$queue"

bus=$(output WebEventBusName)
have "the buses" "$bus" "$(aws events list-event-buses)"
have "the rules" catchall "$(aws events list-rules --event-bus-name "$bus")"
have "an event" '"FailedEntryCount": 0' "$(aws events put-events --entries "[{\"Source\":\"cli\",\"DetailType\":\"T\",\"Detail\":\"{}\",\"EventBusName\":\"$bus\"}]")"
have "a pattern" '"Result": true' "$(aws events test-event-pattern --event-pattern '{"source":[{"prefix":"unicorn-"}]}' --event \
    '{"id":"1","account":"1","source":"unicorn-web","time":"2026-11-23T18:22:06Z","region":"us-east-1","resources":[],"detail-type":"T","detail":{}}')"

bucket=$(output ImagesBucketName)
mkdir "$work/images"; echo one >"$work/images/a b.png"; echo two >"$work/images/c.png"
aws s3 cp "$work/images/c.png" "s3://$bucket/$city/c.png" >/dev/null
have "what is not there yet" "^upload: .*a b.png" "$(aws s3 sync --no-progress "$work/images" "s3://$bucket/$city/" --size-only)"
have "the images" "a b.png" "$(aws s3 ls "s3://$bucket/$city/")"
aws s3 sync "s3://$bucket/$city/" "$work/back" >/dev/null
diff -r "$work/images" "$work/back" || fail "an image came back changed"
have "an image on the terminal" "^two$" "$(aws s3 cp "s3://$bucket/$city/c.png" -)"
have "what is known of an image" '"ContentType": "image/png"' "$(aws s3api head-object --bucket "$bucket" --key "$city/c.png")"
head -c 9000000 /dev/urandom >"$work/large"
refused "an upload in parts" "NotImplemented.*CreateMultipartUpload" aws s3 cp "$work/large" "s3://$bucket/$city/large"
aws s3 rm "s3://$bucket/$city/" --recursive >/dev/null
aws s3api wait object-not-exists --bucket "$bucket" --key "$city/c.png"
have "an image that is gone" "^$" "$(aws s3 ls "s3://$bucket/$city/" || true)"

function=$(aws lambda list-functions --query 'Functions[].FunctionName' --output text | tr '\t' '\n' | grep contracts-ingest)
aws lambda wait function-active-v2 --function-name "$function" 2>/dev/null || aws lambda wait function-active --function-name "$function"
log=$(aws lambda invoke --function-name "$function" "${raw[@]}" --payload '{"Records":[]}' --log-type Tail --query '[StatusCode,LogResult]' --output text "$work/answer")
have "an invocation" "^200" "$log"
have "its answer" batchItemFailures "$(cat "$work/answer")"
have "its log" "report" "$(cut -f 2 <<<"$log" | base64 --decode)"

aws ssm put-parameter --name "/$city/a" --value 1 --type String >/dev/null
have "parameters" "/$city/a" "$(aws ssm get-parameters-by-path --path "/$city" --recursive)"
aws ssm delete-parameter --name "/$city/a"
have "the pipe" RUNNING "$(aws pipes list-pipes --query 'Pipes[].CurrentState')"
registry=$(aws schemas list-registries --query 'Registries[].RegistryName' --output text | tr '\t' '\n' | grep contracts)
have "the schemas" ContractStatusChanged "$(aws schemas list-schemas --registry-name "$registry")"
have "the caller" '"Account"' "$(aws sts get-caller-identity)"
have "a caller who signs nothing" "$contracts" "$(aws dynamodb list-tables --no-sign-request)"
refused "what is not emulated" emulated aws stepfunctions list-activities

if command -v cargo-lambda >/dev/null; then
    address=${AWS_ENDPOINT_URL#http://}
    have "cargo lambda invoke" batchItemFailures "$(cargo-lambda lambda invoke "$function" \
        --invoke-address "${address%:*}" --invoke-port "${address#*:}" --data-ascii '{"Records":[]}')"
    have "cargo lambda invoke --remote" batchItemFailures "$(cargo-lambda lambda invoke "$function" \
        --remote --endpoint-url "$AWS_ENDPOINT_URL" --data-ascii '{"Records":[]}')"
else
    echo "skipped: cargo lambda invoke, since there is no cargo-lambda on the PATH"
fi
echo "The command line was answered."

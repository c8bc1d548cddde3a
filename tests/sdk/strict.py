"""Holds every answer against botocore's own model of its operation.

botocore reads what it knows and ignores the rest, so that a misspelt, a missing or a wrongly
typed member goes unnoticed. `watch` looks at each answer as it came over the wire, before botocore
does, and gathers what AWS's own description of the service does not have.
"""

import base64
import json
import math
import re
import xml.etree.ElementTree as xml
from datetime import datetime

# Errors that every service has, whatever its model says; the last is for what is not emulated.
# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/CommonErrors.html
COMMON = {
    "AccessDeniedException", "InternalFailure", "MissingAction", "ThrottlingException", "ValidationError",
    "ValidationException", "SerializationException", "UnknownOperationException", "NotImplemented",
}
# Documented beside the operations, where the models do not name them for each.
ALSO = {
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
    "sqs": {"InvalidParameterValueException", "MissingRequiredParameterException"},
    # https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    "s3": {
        "AccessControlListNotSupported", "AccessDenied", "BadDigest", "BucketNotEmpty", "EntityTooSmall", "InvalidArgument",
        "InvalidBucketName", "InvalidDigest", "InvalidPart", "InvalidPartOrder", "InvalidRange", "InvalidRequest", "KeyTooLongError",
        "MalformedXML", "MethodNotAllowed", "NoSuchBucket", "NoSuchKey", "NoSuchUpload", "PreconditionFailed",
    },
}
CONTENT = {
    "json": "application/x-amz-json-", "rest-json": "application/json", "query": "text/xml", "ec2": "text/xml",
    "rest-xml": "application/xml",
}
# Where AWS does not keep to its model: a table answers with both, seen in what its clients log.
NOT_SO = (
    "Table has the unknown member TableThroughputModeSummary",
    "TableDescription has the unknown member TableThroughputModeSummary",
    "ProvisionedThroughput.NumberOfDecreasesToday is 0, and beyond its limits",
)


def watch(session):
    """The list to which what is wrong with the answers of the session's clients will be added."""
    found = []

    def look(operation_model, response_dict, **_):
        where = f"{operation_model.service_model.service_name}.{operation_model.name}"
        found.extend(f"{where}: {problem}" for problem in problems(operation_model, response_dict) if not problem.endswith(NOT_SO))

    session.events.register("before-parse", look)
    return found


def problems(operation, response):
    protocol = operation.service_model.resolved_protocol
    headers, status, body = response["headers"], response["status_code"], response["body"]
    if not (headers.get("x-amzn-requestid") or headers.get("x-amz-request-id")):
        yield "the answer has no id of the request"
    streamed = operation.has_streaming_output and status < 300
    if not streamed and body and not headers.get("content-type", "").startswith(CONTENT[protocol]):
        yield f"the content type is {headers.get('content-type')}"
    version = operation.metadata.get("jsonVersion")
    if protocol == "json" and not headers["content-type"].endswith("json-" + version):
        yield f"the content type is {headers['content-type']}, of JSON {version}"
    if status >= 300:
        yield from error(operation, protocol, response)
        return
    if protocol.startswith("rest"):
        expected = operation.http.get("responseCode", 200)
        # An asynchronous invocation answers 202 and a dry one 204, which the model does not say.
        if status != expected and operation.name not in ("Invoke", "GetObject"):
            yield f"the status is {status} and not {expected}"
    shape = operation.output_shape
    if shape is None:
        return
    yield from header_members(shape, headers)
    if streamed:
        return
    if protocol in ("json", "rest-json"):
        yield from of_json(body_shape(shape), json.loads(body) if body else {}, shape.name)
    elif body:
        root = xml.fromstring(body)
        if protocol == "query":
            result = shape.serialization.get("resultWrapper")
            root = next((child for child in root if local(child) == result), root)
        yield from of_xml(body_shape(shape), root, shape.name)


def body_shape(shape):
    payload = shape.serialization.get("payload")
    return shape.members[payload] if payload else shape


def header_members(shape, headers):
    for name, member in shape.members.items():
        if member.serialization.get("location") == "header" and name in shape.required_members:
            if member.serialization["name"] not in headers:
                yield f"the header {member.serialization['name']} is missing"


def in_body(shape):
    """The members of a structure that travel in the body, by their names there."""
    return {m.serialization.get("name", name): (name, m) for name, m in shape.members.items() if "location" not in m.serialization}


def error(operation, protocol, response):
    headers, status, body = response["headers"], response["status_code"], response["body"]
    service = operation.service_model.service_name
    if protocol in ("json", "rest-json"):
        given = json.loads(body)
        code = given.get("__type", headers.get("x-amzn-errortype", "")).split("#")[-1]
        message = given.get("message", given.get("Message"))
        members = {name for name in given if name not in ("__type", "message", "Message", "Type")}
    elif not body:
        return
    else:
        root = xml.fromstring(body)
        root = next((child for child in root if local(child) == "Error"), root)
        given = {local(child): child.text for child in root}
        code, message, members = given.get("Code"), given.get("Message"), set()
    if not message:
        yield f"the error {code} has no message"
    shape = next((s for s in operation.error_shapes if code in (s.name, s.metadata.get("error", {}).get("code"))), None)
    known = shape or code in COMMON or code in ALSO.get(service, ())
    if not known:
        yield f"the error {code} is none of this operation ({status}: {message})"
    if shape is not None:
        expected = shape.metadata.get("error", {}).get("httpStatusCode")
        if protocol != "json" and expected not in (None, status):
            yield f"the error {code} has status {status} and not {expected}"
        unknown = members - set(in_body(shape))
        if unknown:
            yield f"the error {code} has the unknown members {sorted(unknown)}"


def of_json(shape, value, path):
    kind = shape.type_name
    if value is None:
        yield f"{path} is null"
    elif kind == "structure":
        if not isinstance(value, dict):
            yield f"{path} is {value!r}, and no structure"
            return
        if getattr(shape, "is_document_type", False):
            return
        members = in_body(shape)
        for name, member in value.items():
            if name not in members:
                yield f"{path} has the unknown member {name}"
            else:
                yield from of_json(members[name][1], member, f"{path}.{name}")
        for name, (own, _) in members.items():
            if own in shape.required_members and name not in value:
                yield f"{path} misses {name}"
    elif kind == "list":
        if not isinstance(value, list):
            yield f"{path} is {value!r}, and no list"
            return
        for item in value:
            yield from of_json(shape.member, item, f"{path}[]")
    elif kind == "map":
        for key, item in value.items():
            yield from of_json(shape.key, key, f"{path}.key")
            yield from of_json(shape.value, item, f"{path}.{key}")
    else:
        yield from of_scalar(shape, value, path)


def of_scalar(shape, value, path):
    kind = shape.type_name
    fits = {
        "string": lambda: isinstance(value, str),
        "character": lambda: isinstance(value, str),
        "boolean": lambda: isinstance(value, bool),
        "integer": lambda: isinstance(value, int) and not isinstance(value, bool),
        "long": lambda: isinstance(value, int) and not isinstance(value, bool),
        "float": lambda: isinstance(value, (int, float)) and not isinstance(value, bool),
        "double": lambda: isinstance(value, (int, float)) and not isinstance(value, bool),
        "blob": lambda: base64.b64decode(value, validate=True) is not None,
        "timestamp": lambda: is_time(shape, value),
    }[kind]
    if not fits():
        yield f"{path} is {value!r}, and no {kind}"
    elif kind == "string":
        yield from of_text(shape, value, path)
    elif kind in ("integer", "long"):
        limits = shape.metadata
        if not limits.get("min", -math.inf) <= value <= limits.get("max", math.inf):
            yield f"{path} is {value}, and beyond its limits"


def of_text(shape, value, path):
    if shape.enum and value not in shape.enum:
        yield f"{path} is {value!r}, and none of {shape.enum}"
    if len(value) < shape.metadata.get("min", 0):
        yield f"{path} is {value!r}, and too short"
    pattern = shape.metadata.get("pattern")
    if pattern:
        try:
            # Some patterns have no anchors, as if they had.
            found = re.fullmatch(pattern, value)
        except re.error:
            return
        if not found:
            yield f"{path} is {value!r}, and does not match {pattern}"


def is_time(shape, value):
    form = shape.serialization.get("timestampFormat")
    if form == "iso8601" or isinstance(value, str):
        # REST JSON of older services writes ISO 8601 where the model says so; JSON is a number.
        return form == "iso8601" and datetime.fromisoformat(value.replace("Z", "+00:00")).tzinfo is not None
    return isinstance(value, (int, float)) and 1e9 < value < 1e11


def local(element):
    return element.tag.rpartition("}")[2]


def of_xml(shape, element, path):
    kind = shape.type_name
    if kind == "structure":
        members = in_body(shape)
        for own, member in list(members.values()):
            if member.type_name == "list" and member.serialization.get("flattened"):
                members[member.member.serialization.get("name", member.serialization.get("name", own))] = (own, member)
        seen = set()
        for child in element:
            name = local(child)
            if name not in members:
                yield f"{path} has the unknown member {name}"
                continue
            own, member = members[name]
            seen.add(own)
            if member.type_name == "list" and member.serialization.get("flattened"):
                member = member.member
            yield from of_xml(member, child, f"{path}.{name}")
        for own in shape.required_members:
            if own not in seen and own in {name for name, _ in members.values()}:
                yield f"{path} misses {own}"
    elif kind == "list":
        item = shape.member.serialization.get("name", "member")
        for child in element:
            if local(child) != item:
                yield f"{path} has an item {local(child)}, and not {item}"
            yield from of_xml(shape.member, child, f"{path}[]")
    elif kind == "map":
        if any(local(child) != "entry" for child in element):
            yield f"{path} has something else than entries"
    elif kind == "timestamp":
        if datetime.fromisoformat((element.text or "").replace("Z", "+00:00")).tzinfo is None:
            yield f"{path} is {element.text!r}, and no time"
    elif kind in ("integer", "long"):
        yield from of_scalar(shape, int(element.text), path)
    elif kind == "boolean":
        if element.text not in ("true", "false"):
            yield f"{path} is {element.text!r}, and no boolean"
    elif kind == "string":
        yield from of_text(shape, element.text or "", path)

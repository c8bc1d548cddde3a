"""S3: objects of the images bucket."""

import base64
import hashlib
import io

import pytest
import requests
from botocore.exceptions import ClientError, WaiterError


@pytest.fixture(scope="module")
def s3(client):
    return client("s3")


@pytest.fixture(scope="module")
def bucket(outputs):
    return outputs["ImagesBucketName"]


def code(error):
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_the_bucket_is_there(s3, bucket):
    assert bucket in [b["Name"] for b in s3.list_buckets()["Buckets"]]
    s3.head_bucket(Bucket=bucket)
    s3.get_waiter("bucket_exists").wait(Bucket=bucket, WaiterConfig={"MaxAttempts": 1})


def test_an_object_goes_in_and_comes_out(s3, bucket, name):
    key, body = f"{name}/ä b+c&d.png", bytes(range(256))
    put = s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="image/png", Metadata={"made-by": "me"}, CacheControl="no-store")
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key=key)
    assert got["Body"].read() == body
    assert (got["ContentType"], got["Metadata"], got["ContentLength"], got["CacheControl"]) == ("image/png", {"made-by": "me"}, 256, "no-store")
    head = s3.head_object(Bucket=bucket, Key=key)
    assert (head["ETag"], head["ContentLength"]) == (put["ETag"], 256)
    assert head["LastModified"].tzinfo
    part = s3.get_object(Bucket=bucket, Key=key, Range="bytes=10-19")
    assert part["Body"].read() == body[10:20]
    assert part["ContentRange"] == "bytes 10-19/256"
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    s3.get_waiter("object_exists").wait(Bucket=bucket, Key=key, WaiterConfig={"MaxAttempts": 1})
    s3.delete_object(Bucket=bucket, Key=key)
    s3.delete_object(Bucket=bucket, Key=key)
    s3.get_waiter("object_not_exists").wait(Bucket=bucket, Key=key, WaiterConfig={"MaxAttempts": 1})


def test_a_missing_object_or_bucket_is_told_as_on_aws(s3, bucket):
    with pytest.raises(s3.exceptions.NoSuchKey) as error:
        s3.get_object(Bucket=bucket, Key="nobodys")
    assert error.value.response["Error"]["Message"] == "The specified key does not exist."
    with pytest.raises(ClientError) as error:
        s3.head_object(Bucket=bucket, Key="nobodys")
    assert code(error) == ("404", 404)
    with pytest.raises(ClientError) as error:
        s3.head_bucket(Bucket="nobodys-bucket")
    assert code(error) == ("404", 404)
    for call in (lambda: s3.get_object(Bucket="nobodys-bucket", Key="a"), lambda: s3.list_objects_v2(Bucket="nobodys-bucket"), lambda: s3.put_object(Bucket="nobodys-bucket", Key="a")):
        with pytest.raises(ClientError) as error:
            call()
        assert code(error) == ("NoSuchBucket", 404)
    with pytest.raises(WaiterError):
        s3.get_waiter("object_exists").wait(Bucket=bucket, Key="nobodys", WaiterConfig={"MaxAttempts": 1, "Delay": 1})


def test_conditions_on_the_entity_tag(s3, bucket, name):
    tag = s3.put_object(Bucket=bucket, Key=name, Body=b"x")["ETag"]
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key=name, IfNoneMatch=tag)
    assert code(error) == ("304", 304)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key=name, IfMatch='"other"')
    assert code(error) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key=name, Body=b"y", IfNoneMatch="*")
    assert code(error) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key=name, Body=b"y", ContentMD5=base64.b64encode(b"0" * 16).decode())
    assert code(error) == ("BadDigest", 400)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key=name, Range="bytes=5-9")
    assert code(error) == ("InvalidRange", 416)
    s3.delete_object(Bucket=bucket, Key=name)


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256"])
def test_the_checksum_that_a_client_chose_is_kept(s3, bucket, name, algorithm):
    put = s3.put_object(Bucket=bucket, Key=name, Body=b"123456789", ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket=bucket, Key=name, ChecksumMode="ENABLED")
    assert put[f"Checksum{algorithm}"] == head[f"Checksum{algorithm}"]
    assert s3.get_object(Bucket=bucket, Key=name)["Body"].read() == b"123456789"
    with pytest.raises(ClientError) as error:
        s3.put_object(Bucket=bucket, Key=name, Body=b"x", ChecksumSHA256=base64.b64encode(b"0" * 32).decode())
    assert code(error) == ("BadDigest", 400)
    s3.delete_object(Bucket=bucket, Key=name)


def test_conditions_on_the_time(s3, bucket, name):
    s3.put_object(Bucket=bucket, Key=name, Body=b"x")
    changed = s3.head_object(Bucket=bucket, Key=name)["LastModified"]
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key=name, IfModifiedSince=changed)
    assert code(error) == ("304", 304)
    with pytest.raises(ClientError) as error:
        s3.get_object(Bucket=bucket, Key=name, IfUnmodifiedSince=changed.replace(year=2000))
    assert code(error) == ("PreconditionFailed", 412)
    assert s3.get_object(Bucket=bucket, Key=name, IfModifiedSince=changed.replace(year=2000))["ContentLength"] == 1
    s3.delete_object(Bucket=bucket, Key=name)


def test_what_the_bucket_cannot_have_is_refused(s3, bucket, name):
    for given in ({"ACL": "public-read"}, {"StorageClass": "GLACIER"}, {"Tagging": "a=b"}, {"ChecksumAlgorithm": "SHA1"}, {"ExpectedBucketOwner": "999999999999"}):
        with pytest.raises(ClientError):
            s3.put_object(Bucket=bucket, Key=name, Body=b"x", **given)


def test_objects_are_listed_in_pages_by_prefix_and_folder(s3, bucket, name):
    keys = [f"{name}/{folder}/{n}.txt" for folder in "ab" for n in range(5)]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    for operation in ("list_objects_v2", "list_objects"):
        pages = list(s3.get_paginator(operation).paginate(Bucket=bucket, Prefix=name + "/", PaginationConfig={"PageSize": 3}))
        assert [item["Key"] for page in pages for item in page["Contents"]] == keys
        assert len(pages) == 4
    folders = s3.list_objects_v2(Bucket=bucket, Prefix=name + "/", Delimiter="/")
    assert [prefix["Prefix"] for prefix in folders["CommonPrefixes"]] == [f"{name}/a/", f"{name}/b/"]
    assert "Contents" not in folders
    after = s3.list_objects_v2(Bucket=bucket, Prefix=name + "/", StartAfter=keys[7])
    assert [item["Key"] for item in after["Contents"]] == keys[8:]
    assert after["KeyCount"] == 2
    gone = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    assert sorted(item["Key"] for item in gone["Deleted"]) == keys
    assert s3.list_objects_v2(Bucket=bucket, Prefix=name + "/")["KeyCount"] == 0


def test_an_object_is_copied_with_its_metadata(s3, bucket, name):
    s3.put_object(Bucket=bucket, Key=name + "/a b", Body=b"x", Metadata={"k": "v"}, ContentType="text/x")
    copied = s3.copy_object(Bucket=bucket, Key=name + "/c", CopySource={"Bucket": bucket, "Key": name + "/a b"})
    assert copied["CopyObjectResult"]["ETag"]
    head = s3.head_object(Bucket=bucket, Key=name + "/c")
    assert (head["Metadata"], head["ContentType"]) == ({"k": "v"}, "text/x")
    with pytest.raises(ClientError) as error:
        s3.copy_object(Bucket=bucket, Key=name + "/d", CopySource={"Bucket": bucket, "Key": "nobodys"})
    assert code(error)[0] == "NoSuchKey"


def test_files_are_sent_and_fetched_by_the_transfer_manager(s3, bucket, name):
    s3.upload_fileobj(io.BytesIO(b"image"), bucket, name, ExtraArgs={"ContentType": "image/png"})
    fetched = io.BytesIO()
    s3.download_fileobj(bucket, name, fetched)
    assert fetched.getvalue() == b"image"


def test_uploads_in_parts_are_refused_by_name(s3, bucket, name):
    with pytest.raises(ClientError) as error:
        s3.create_multipart_upload(Bucket=bucket, Key=name)
    assert code(error) == ("NotImplemented", 501)


def test_a_presigned_address_works_without_an_sdk(s3, bucket, name):
    put = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": name})
    assert requests.put(put, data=b"signed", timeout=10).status_code == 200
    get = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": name})
    assert requests.get(get, timeout=10).content == b"signed"

//! A repository in a bucket.

mod client;
mod credentials;
mod failure;
mod http_client;
mod unverified;

use std::{fmt, future::Future, time::Duration};

use aws_sdk_s3::{
    Client,
    operation::{create_bucket::CreateBucketError, list_objects_v2::ListObjectsV2Error},
    primitives::ByteStream,
    types::{BucketLocationConstraint, CreateBucketConfiguration, Object},
};
use bytes::Bytes;
use rustic_core::Id;
use tokio::{runtime::Runtime, time::timeout};

use self::failure::{classify, classify_body};
pub(crate) use self::http_client::check_certificates;
use super::{Creation, FileKind, Storage, StorageError, StorageErrorKind, relative_path};
use crate::{Location, S3Location};

/// Attempts for reading one object: the SDK retries a request, but not a body that breaks off.
const BODY_ATTEMPTS: u32 = 5;

/// Longest time one body of at most a pack may take; the SDK's timeouts end with the response's headers.
const BODY_TIMEOUT: Duration = Duration::from_mins(2);

/// Retries of a conditional put that met another one of the same object, which AWS refuses to both.
const CONFLICT_ATTEMPTS: u32 = 10;
const CONFLICT_PAUSE: Duration = Duration::from_millis(200);

/// The region whose buckets are created without naming it.
const DEFAULT_REGION: &str = "us-east-1";

/// Objects below one prefix of one bucket.
pub(super) struct S3Storage {
    client: Client,
    bucket: String,
    prefix: String,
    region: String,
    url: String,
    runtime: OwnRuntime,
}

impl fmt::Debug for S3Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Storage").field("url", &self.url).finish_non_exhaustive()
    }
}

impl S3Storage {
    pub(super) fn new(location: &S3Location) -> Result<Self, StorageError> {
        Ok(Self {
            client: client::build(location)?,
            bucket: location.bucket.clone(),
            prefix: location.prefix.clone(),
            region: location.options.region.clone(),
            url: Location::S3(location.clone()).url(),
            runtime: OwnRuntime::new()?,
        })
    }

    fn key(&self, relative: &str) -> String {
        if self.prefix.is_empty() { relative.to_owned() } else { format!("{}/{relative}", self.prefix) }
    }

    fn object(&self, kind: FileKind, id: &Id) -> String {
        self.key(&relative_path(kind, id))
    }

    /// One page with at most one object: the cheapest request that tells bucket, keys and permission apart, which HEAD
    /// cannot because its answers have no body.
    fn probe(&self) -> Result<(), StorageError> {
        self.runtime
            .block_on(self.client.list_objects_v2().bucket(&self.bucket).max_keys(1).send())
            .map(drop)
            .map_err(|error| classify::<ListObjectsV2Error>("list", &self.bucket, &error))
    }

    fn create_bucket(&self) -> Result<(), StorageError> {
        let region = (self.region != DEFAULT_REGION).then(|| {
            CreateBucketConfiguration::builder()
                .location_constraint(BucketLocationConstraint::from(self.region.as_str()))
                .build()
        });
        let request =
            self.client.create_bucket().bucket(&self.bucket).set_create_bucket_configuration(region);
        self.runtime
            .block_on(request.send())
            .map(drop)
            .map_err(|error| classify::<CreateBucketError>("create bucket", &self.bucket, &error))
    }

    fn get(&self, key: &str, range: Option<&str>) -> Result<Bytes, StorageError> {
        self.runtime.block_on(async {
            let mut attempt = 1;
            loop {
                match self.get_once(key, range).await {
                    Err(BodyOr::Body(error)) if attempt < BODY_ATTEMPTS => {
                        tracing::debug!(key, attempt, %error, "a body broke off, reading it again");
                        tokio::time::sleep(Duration::from_millis(200) * 2_u32.pow(attempt)).await;
                        attempt += 1;
                    }
                    Err(BodyOr::Body(error) | BodyOr::Request(error)) => return Err(error),
                    Ok(content) => return Ok(content),
                }
            }
        })
    }

    async fn get_once(&self, key: &str, range: Option<&str>) -> Result<Bytes, BodyOr> {
        let request =
            self.client.get_object().bucket(&self.bucket).key(key).set_range(range.map(str::to_owned));
        let answer = request.send().await.map_err(|error| BodyOr::Request(classify("get", key, &error)))?;
        match timeout(BODY_TIMEOUT, answer.body.collect()).await {
            Ok(Ok(content)) => Ok(content.into_bytes()),
            Ok(Err(error)) => Err(BodyOr::Body(classify_body("get", key, &error))),
            Err(_) => Err(BodyOr::Body(StorageError::with_detail(
                "get",
                key,
                StorageErrorKind::Busy,
                format!("the body was not complete after {} s", BODY_TIMEOUT.as_secs()),
            ))),
        }
    }

    fn put(&self, key: &str, content: Bytes, condition: Option<&str>) -> Result<(), StorageError> {
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .set_if_none_match(condition.map(str::to_owned))
            .body(ByteStream::from(content))
            .customize()
            .config_override(client::for_upload());
        self.runtime.block_on(request.send()).map(drop).map_err(|error| classify("put", key, &error))
    }

    /// All objects below `prefix`. An error on any page is an error: an incomplete listing must not look complete.
    fn objects(&self, prefix: &str) -> Result<Vec<Object>, StorageError> {
        self.runtime.block_on(async {
            let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix);
            let mut pages = request.into_paginator().send();
            let mut objects = Vec::new();
            while let Some(page) = pages.next().await {
                let page = page.map_err(|error| classify::<ListObjectsV2Error>("list", prefix, &error))?;
                objects.extend(page.contents.unwrap_or_default());
            }
            Ok(objects)
        })
    }

    fn config(&self) -> Result<Vec<(Id, u32)>, StorageError> {
        let key = self.key("config");
        // The key itself sorts before everything it is a prefix of, so one entry is enough.
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(&key).max_keys(1);
        let page = self
            .runtime
            .block_on(request.send())
            .map_err(|error| classify::<ListObjectsV2Error>("list", &key, &error))?;
        let found = page.contents().iter().find(|object| object.key() == Some(&key));
        Ok(found.map(|object| (Id::default(), size_of(object))).into_iter().collect())
    }
}

/// Tells a failed request, which the SDK has retried, from a body that broke off, which it has not.
enum BodyOr {
    Body(StorageError),
    Request(StorageError),
}

fn size_of(object: &Object) -> u32 {
    object.size().and_then(|size| u32::try_from(size).ok()).unwrap_or(u32::MAX)
}

impl Storage for S3Storage {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn prepare(&self) -> Result<(), StorageError> {
        match self.probe() {
            Err(error) if error.kind == StorageErrorKind::BucketMissing => {}
            outcome => return outcome,
        }
        match self.create_bucket() {
            Ok(()) => Ok(()),
            // Somebody was faster. If the bucket answers us now, it was ourselves in another process.
            Err(error) if error.kind == StorageErrorKind::BucketTaken => self.probe().map_err(|_| error),
            Err(error) => Err(error),
        }
    }

    fn list(&self, kind: FileKind) -> Result<Vec<(Id, u32)>, StorageError> {
        if kind == FileKind::Config {
            return self.config();
        }
        let objects = self.objects(&self.key(&format!("{}/", kind.dirname())))?;
        let named = objects.iter().filter_map(|object| {
            let name = object.key()?.rsplit('/').next()?;
            Some((name.parse().ok()?, size_of(object)))
        });
        Ok(named.collect())
    }

    fn read(&self, kind: FileKind, id: &Id) -> Result<Bytes, StorageError> {
        self.get(&self.object(kind, id), None)
    }

    fn read_range(&self, kind: FileKind, id: &Id, offset: u32, length: u32) -> Result<Bytes, StorageError> {
        let (first, length) = (u64::from(offset), u64::from(length));
        if length == 0 {
            return Ok(Bytes::new());
        }
        self.get(&self.object(kind, id), Some(&format!("bytes={first}-{}", first + length - 1)))
    }

    fn write(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<(), StorageError> {
        self.put(&self.object(kind, id), content, None)
    }

    fn create_new(&self, kind: FileKind, id: &Id, content: Bytes) -> Result<Creation, StorageError> {
        let key = self.object(kind, id);
        let mut outcome = self.put(&key, content.clone(), Some("*"));
        for _ in 0..CONFLICT_ATTEMPTS {
            match &outcome {
                Err(error) if failure::says_conflict(error) => std::thread::sleep(CONFLICT_PAUSE),
                _ => break,
            }
            outcome = self.put(&key, content.clone(), Some("*"));
        }
        match outcome {
            Ok(()) => Ok(Creation::Created),
            Err(error) if failure::says_exists(&error) => {
                // A retry of the SDK also meets the object its first, unanswered attempt has made.
                let ours = self.get(&key, None)? == content;
                Ok(if ours { Creation::Created } else { Creation::Exists })
            }
            Err(error) if failure::says_unconditional(&error) => {
                self.create_unconditionally(kind, &key, &content)
            }
            Err(error) => Err(error),
        }
    }

    fn remove(&self, kind: FileKind, id: &Id) -> Result<(), StorageError> {
        let key = self.object(kind, id);
        let request = self.client.delete_object().bucket(&self.bucket).key(&key);
        match self.runtime.block_on(request.send()).map_err(|error| classify("delete", &key, &error)) {
            Err(error) if error.kind == StorageErrorKind::Missing => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

impl S3Storage {
    /// For servers that know no conditional put: look, write, and see whose content stayed.
    fn create_unconditionally(
        &self,
        kind: FileKind,
        key: &str,
        content: &Bytes,
    ) -> Result<Creation, StorageError> {
        if kind == FileKind::Config && self.has_config()? {
            return Ok(Creation::Exists);
        }
        self.put(key, content.clone(), None)?;
        let ours = self.get(key, None)? == *content;
        Ok(if ours { Creation::Created } else { Creation::Exists })
    }
}

/// The runtime the SDK runs in. Two threads: connections and timers; the caller's thread waits in `block_on`.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> Result<Self, StorageError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3")
            .enable_all()
            .build()
            .map_err(|error| StorageError::new("start", "tokio runtime", StorageErrorKind::Other, &error))?;
        Ok(Self(Some(runtime)))
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.as_ref().expect("the runtime is there until drop").block_on(future)
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A plain drop waits for the threads, and panics where the repository is dropped by asynchronous code.
            runtime.shutdown_background();
        }
    }
}

//! What an admin sets for the jobs' pods in the chart: the file `job.json`.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{LocalObjectReference, ResourceRequirements};
use kubedr_api::task;
use serde::Deserialize;

/// Settings of the pods of init and backup jobs. Unknown keys are refused, so that a typing error is no silent default.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobSettings {
    /// Image of the job, with tag or digest.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(default = "if_not_present")]
    pub image_pull_policy: String,
    /// Secrets with registry credentials.
    #[serde(default)]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Service account of the jobs, with which they report.
    pub service_account_name: String,
    /// Priority class of the pods.
    #[serde(default)]
    pub priority_class_name: Option<String>,
    /// Requests and limits. The memory limit has to leave room for scrypt: 256 MiB or more.
    #[serde(default)]
    pub resources: ResourceRequirements,
    /// Further variables, such as those that name a proxy.
    #[serde(default)]
    pub env: Vec<PlainVariable>,
    /// Capabilities that backup pods get after all have been dropped, such as `DAC_READ_SEARCH`.
    #[serde(default)]
    pub add_capabilities: Vec<String>,
    /// After how many seconds a run is ended.
    #[serde(default = "one_hour")]
    pub active_deadline_seconds: i64,
    /// After how many seconds a run whose pod has not started is ended.
    #[serde(default = "five_minutes")]
    pub start_timeout_seconds: i64,
    /// Level of the jobs' logs.
    #[serde(default = "info")]
    pub log_level: String,
}

/// A variable with its value in the open.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct PlainVariable {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Why the settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JobSettingsError {
    /// The file cannot be read.
    #[error("cannot read the job settings `{path}`; mount the chart's ConfigMap there or set --job-settings")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file's content does not fit.
    #[error("the job settings `{path}` are wrong; compare them with the chart's value `job`")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Cause, which names the place.
        source: serde_json::Error,
    },
    /// A value is of no use.
    #[error("`{field}` in the job settings is `{value}`: expected {expected}")]
    Value {
        /// Key.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        expected: &'static str,
    },
}

impl JobSettings {
    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Self, JobSettingsError> {
        let text =
            std::fs::read(path).map_err(|source| JobSettingsError::Read { path: path.into(), source })?;
        let settings: Self = serde_json::from_slice(&text)
            .map_err(|source| JobSettingsError::Parse { path: path.into(), source })?;
        settings.check()?;
        Ok(settings)
    }

    /// After how many seconds a job is ended that is no backup and takes so many locks one after the other. It has at least an hour
    /// for its work, as much as is set for a backup if that is more, and may wait for each lock for as long as it does.
    #[must_use]
    pub fn deadline_with_locks(&self, locks: u8) -> i64 {
        let waiting = task::LOCK_WAIT * u32::from(locks);
        self.active_deadline_seconds.max(one_hour()) + i64::try_from(waiting.as_secs()).unwrap_or_default()
    }

    fn check(&self) -> Result<(), JobSettingsError> {
        let wrong = |field, value: &dyn ToString, expected| {
            Err(JobSettingsError::Value { field, value: value.to_string(), expected })
        };
        if self.image.trim().is_empty() {
            return wrong("image", &self.image, "the name of an image");
        }
        if self.service_account_name.trim().is_empty() {
            return wrong("serviceAccountName", &self.service_account_name, "the name of a service account");
        }
        if self.active_deadline_seconds < 1 {
            return wrong("activeDeadlineSeconds", &self.active_deadline_seconds, "1 or more");
        }
        if self.start_timeout_seconds < 1 {
            return wrong("startTimeoutSeconds", &self.start_timeout_seconds, "1 or more");
        }
        Ok(())
    }
}

fn if_not_present() -> String {
    "IfNotPresent".to_owned()
}

fn info() -> String {
    "info".to_owned()
}

const fn one_hour() -> i64 {
    3600
}

const fn five_minutes() -> i64 {
    300
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_and_service_account_suffice() {
        let settings: JobSettings =
            serde_json::from_str(r#"{"image": "i:1", "serviceAccountName": "job"}"#).unwrap();
        settings.check().unwrap();
        assert_eq!((settings.active_deadline_seconds, settings.start_timeout_seconds), (3600, 300));
        assert_eq!(settings.image_pull_policy, "IfNotPresent");
    }

    #[test]
    fn what_waits_for_locks_has_the_time_for_that_on_top() {
        let settings = |deadline: i64| -> JobSettings {
            serde_json::from_value(serde_json::json!({
                "image": "i:1", "serviceAccountName": "job", "activeDeadlineSeconds": deadline,
            }))
            .unwrap()
        };
        assert_eq!(settings(7200).deadline_with_locks(0), 7200);
        assert_eq!(settings(60).deadline_with_locks(1), 3600 + 35 * 60);
        assert_eq!(settings(7200).deadline_with_locks(2), 7200 + 70 * 60);
    }

    #[test]
    fn a_misspelt_key_is_refused_by_name() {
        let text = r#"{"image": "i:1", "serviceAccountName": "job", "imagePullSecret": []}"#;
        let error = serde_json::from_str::<JobSettings>(text).unwrap_err().to_string();
        assert!(error.contains("imagePullSecret"), "{error}");
    }

    #[test]
    fn a_deadline_of_zero_is_refused() {
        let text = r#"{"image": "i:1", "serviceAccountName": "job", "activeDeadlineSeconds": 0}"#;
        let error = serde_json::from_str::<JobSettings>(text).unwrap().check().unwrap_err().to_string();
        assert!(error.contains("`activeDeadlineSeconds`") && error.contains("1 or more"), "{error}");
    }
}

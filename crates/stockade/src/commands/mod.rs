//! The commands that need no host script: those that run one guest, `call`, `exec` and `rpc`; `serve` and
//! what belongs to it; `init`, `dev`, `test` and `types` for who writes code; `doctor`.

mod audit;
mod backup;
mod call;
mod callers;
mod configuration;
mod deploy;
mod dev;
mod doctor;
mod document;
mod exec;
mod exit;
mod failure;
mod file;
mod guest;
mod init;
mod inspect;
mod keys;
mod limits;
mod live;
mod logs;
mod mcp;
mod meant;
mod output;
mod printer;
mod profile;
mod receipt;
mod recorded;
mod rpc;
mod run_guest;
mod serve;
mod session;
mod status;
mod style;
mod supervise;
mod test;
mod top;
mod types;
mod units;
mod usage;
mod versions;

pub(crate) use audit::{AUDIT_EXAMPLES, AuditArgs, audit};
pub(crate) use backup::{
    BACKUP_EXAMPLES, BackupArgs, RESTORE_EXAMPLES, RestoreArgs, backup, restore,
};
pub(crate) use call::{CallArgs, call, examples as call_examples};
pub(crate) use deploy::{
    DEPLOY_EXAMPLES, DeployArgs, ROLLBACK_EXAMPLES, RollbackArgs, deploy, rollback,
};
pub(crate) use dev::{DEV_EXAMPLES, DevArgs, dev};
pub(crate) use doctor::{DoctorArgs, EXAMPLES as DOCTOR_EXAMPLES, doctor};
pub(crate) use exec::{ExecArgs, examples as exec_examples, exec};
pub(crate) use guest::{Level, Refusal};
pub(crate) use init::{INIT_EXAMPLES, InitArgs, init};
pub(crate) use inspect::{INSPECT_EXAMPLES, InspectArgs, inspect};
pub(crate) use keys::{EXAMPLES as KEYS_EXAMPLES, KeysArgs, keys};
pub(crate) use limits::{EXAMPLES as LIMITS_EXAMPLES, LimitsArgs, limits};
pub(crate) use logs::{LOGS_EXAMPLES, LogsArgs, logs};
pub(crate) use mcp::{MCP_EXAMPLES, McpArgs, mcp};
pub(crate) use meant::{code as meant_code, command as meant_command};
pub(crate) use output::{complain, note, print};
pub(crate) use profile::{EXAMPLES as PROFILE_EXAMPLES, ProfileArgs, profile};
pub(crate) use receipt::{
    RECEIPT_EXAMPLES, ReceiptKeyArgs, VERIFY_EXAMPLES, VerifyArgs, receipt_key, verify,
};
pub(crate) use rpc::{RpcArgs, examples as rpc_examples, rpc};
pub(crate) use serve::{
    CHECK_EXAMPLES, CheckArgs, RELOAD_EXAMPLES, ReloadArgs, SCHEMA_EXAMPLES, SERVE_EXAMPLES,
    ServeArgs, check, reload, schema, serve,
};
pub(crate) use status::{STATUS_EXAMPLES, StatusArgs, status};
pub(crate) use supervise::{EXAMPLES as SUPERVISE_EXAMPLES, SuperviseArgs, supervise};
pub(crate) use test::{TEST_EXAMPLES, TestArgs, test};
pub(crate) use top::{TOP_EXAMPLES, TopArgs, top};
pub(crate) use types::{TYPES_EXAMPLES, TypesArgs, types};
pub(crate) use units::{limit_of_memory, limit_of_time};
pub(crate) use usage::{USAGE_EXAMPLES, UsageArgs, usage};
pub(crate) use versions::{VERSIONS_EXAMPLES, VersionsArgs, versions};

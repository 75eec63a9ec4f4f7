//! The commands that need no host script: those that run one guest, `call`, `exec` and `rpc`; `serve` and
//! what belongs to it; `doctor`.

mod call;
mod doctor;
mod exec;
mod exit;
mod guest;
mod output;
mod rpc;
mod serve;

pub(crate) use call::{CallArgs, EXAMPLES as CALL_EXAMPLES, call, refuse};
pub(crate) use doctor::{DoctorArgs, EXAMPLES as DOCTOR_EXAMPLES, doctor};
pub(crate) use exec::{EXAMPLES as EXEC_EXAMPLES, ExecArgs, exec};
pub(crate) use guest::Refusal;
pub(crate) use rpc::{EXAMPLES as RPC_EXAMPLES, RpcArgs, rpc};
pub(crate) use serve::{
    CHECK_EXAMPLES, CheckArgs, RELOAD_EXAMPLES, ReloadArgs, SCHEMA_EXAMPLES, SERVE_EXAMPLES,
    ServeArgs, check, reload, schema, serve,
};

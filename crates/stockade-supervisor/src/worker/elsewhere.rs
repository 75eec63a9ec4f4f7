//! Where there are no worker processes: nothing here can exist.

use std::task::Context;

use stockade_protocol::FromIsolate;

use crate::end::{Figures, TerminateReason};
use crate::seat::Stopped;
use crate::shared::Shared;
use crate::wall::StartError;

/// See the module.
pub(crate) enum InnerLink {}

impl InnerLink {
    pub(crate) fn send(&self, _: &Shared, _: FromIsolate) -> Result<(), Stopped> {
        match *self {}
    }

    pub(crate) fn started(&self, _: u32, _: Result<(), StartError>) {
        match *self {}
    }

    pub(crate) fn poll_arrivals(&self, _: &mut Context<'_>) {
        match *self {}
    }

    pub(crate) fn look_for_arrivals(&self) {
        match *self {}
    }

    pub(crate) fn taken(&self, _: &Shared, _: usize) {
        match *self {}
    }

    pub(crate) fn sees(&self, _: &Shared, _: usize) {
        match *self {}
    }

    pub(crate) fn rests(&self, _: &Shared, _: bool) {
        match *self {}
    }

    pub(crate) fn ended(&self, _: u32, _: TerminateReason, _: Figures, _: String) {
        match *self {}
    }

    pub(crate) fn left(&self, _: u32) {
        match *self {}
    }

    pub(crate) fn flush_gathered(&self) {
        match *self {}
    }

    pub(crate) fn tick(&self) {
        match *self {}
    }
}

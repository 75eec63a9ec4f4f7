//! Receives the events of one mirror until its end.

use std::sync::Arc;

use stockade_protocol::Payload;
use stockade_supervisor::{End, Event, EventQueue, ResourceUsage};

use super::Mirror;
use crate::wire::{Malformed, parse_fields};

/// Batches of events before other tasks get their turn.
const TURN: u32 = 4;

impl Mirror {
    /// Takes what the isolate says until it has ended; gives how, and with what used.
    pub(super) async fn receive(self: &Arc<Self>, queue: &EventQueue) -> (End, ResourceUsage) {
        let mut usage = None;
        let mut batches = 0;
        loop {
            let (_, events) = queue.events().await;
            for event in events {
                match event {
                    Event::Terminated { usage: used, .. } => usage = Some(used),
                    Event::Destroyed(reason) => {
                        let end = self.handle.end().unwrap_or(End::Destroyed(reason));
                        return (end, usage.unwrap_or_else(|| self.usage()));
                    }
                    event => {
                        if let Err(what) = self.take(event) {
                            self.misbehaved(&what);
                        }
                    }
                }
            }
            batches += 1;
            if batches == TURN {
                batches = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn usage(&self) -> ResourceUsage {
        let stats = self.handle.stats();
        ResourceUsage {
            cpu_total: stats.cpu,
            memory: stats.memory,
            ..ResourceUsage::default()
        }
    }

    /// Takes one event; the error names what is wrong with it.
    fn take(self: &Arc<Self>, event: Event) -> Result<(), String> {
        let observer = &self.pool.observer;
        let (name, taken) = match event {
            Event::Control { name, data } => {
                let taken = self.control(&name, data);
                (name, taken)
            }
            Event::Request { id, method, data } => {
                let taken = self.asked(id, &method, data);
                (method, taken)
            }
            Event::Message { name, data } => {
                let taken = self.guest_event(&name, data);
                (name, taken)
            }
            Event::Console { level, text } => {
                observer.console(self.number, level, &text);
                return Ok(());
            }
            Event::Uncaught(error) => {
                observer.uncaught(self.number, &error);
                return Ok(());
            }
            Event::Terminated { .. } | Event::Destroyed(_) => return Ok(()),
        };
        taken.map_err(|malformed| format!("{name}: {malformed}"))
    }

    pub(crate) fn control(self: &Arc<Self>, name: &str, data: Payload) -> Result<(), Malformed> {
        match name {
            "http.response" => self.http_response(data)?,
            "http.failed" => self.http_failed(&data)?,
            "http.settled" => self.http_settled(&data)?,
            "call.pending" => self.call_pending(&data)?,
            "call.settled" => self.call_settled(&data)?,
            "cron.done" | "connect.done" => self.run_done(&data)?,
            "stream.chunk" => self.stream_chunk(parse_fields(data)?)?,
            "stream.end" => self.stream_over(parse_fields(data)?, false),
            "stream.error" => self.stream_over(parse_fields(data)?, true),
            "stream.pull" => self.stream_pull(&parse_fields(data)?),
            "stream.cancel" => self.stream_cancelled(&parse_fields(data)?),
            "socket.message" => self.socket_message(parse_fields(data)?)?,
            "socket.close" => self.socket_closed(&parse_fields(data)?),
            "socket.credit" => self.socket_credit(&parse_fields(data)?),
            "pipe.data" | "pipe.end" | "pipe.tls" | "pipe.close" => {
                self.pipe_message(name, parse_fields(data)?)?;
            }
            "pipe.credit" => self.pipe_credit(&parse_fields(data)?)?,
            "target.dispose" => self.target_disposed(&parse_fields(data)?),
            "request.cancel" => self.ask_cancelled(&parse_fields(data)?),
            // A runtime newer than this host may say more.
            _ => {}
        }
        Ok(())
    }
}

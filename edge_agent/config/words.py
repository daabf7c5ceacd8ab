"""What each key means, in plain words for the engineer of a hospital.

One line per field of `structs`, by Struct and field; the manual page, the JSON Schema and nothing
else are made of it. A test holds both complete.
"""

from __future__ import annotations

from typing import Final

import msgspec

WORDS: Final = {
    "Config.node": "Name of this machine in everything it reports. Empty: the host name in lower "
    "case, anything but a-z, 0-9 and - made `-`.",
    "Config.state_dir": "Folder for what must survive a restart. One agent per folder.",
    "Config.runtime_dir": "Folder of the control socket. Empty: the one that systemd gives, else "
    "inside `state_dir`.",
    "Config.streams": "The pictures to look at, each with a name of its own.",
    "Config.engine": "How inference runs.",
    "Config.models": "Where models are found.",
    "Config.spool": "How results are kept until they are delivered.",
    "Config.uplink": "How results get to the cloud.",
    "Config.rollouts": "How new models and configuration come to this machine.",
    "Config.console": "Metrics, and the answers for the command line and for programs here.",
    "Config.supervise": "When a failing part is given up.",
    "Config.log": "The log.",
    "StreamConfig.source": "Where the frames come from.",
    "StreamConfig.models": "The models that look at this stream. The first owns the accounting of "
    "frames; the others are left out first when time is short.",
    "StreamConfig.title": "Name for people, in any script.",
    "StreamConfig.room": "Where the device stands.",
    "StreamConfig.priority": "Who goes first when time is short.",
    "StreamConfig.deadline_ms": "From capture to result; a frame that cannot make it is skipped "
    "and counted. Unset: one frame period of the source, at least 20.",
    "StreamConfig.max_age_ms": "A result older than this is never shown as fresh.",
    "StreamConfig.queue": "`latest`: a new frame replaces one that nobody took, which is counted. "
    "`wait`: a recorded source waits until its frame is taken.",
    "StreamConfig.tracking": "Give a finding the same track number from frame to frame.",
    "StreamConfig.contours": "Report the outlines of segmented areas, not only their sizes.",
    "StreamConfig.swap": "When a new version of a model may take over on this stream. "
    "`between_exams`: when the exam has ended, or there was no signal for a minute. `window`: in "
    "the `window` of `[rollouts]`. `now`: at once. A return to the old version never waits.",
    "StreamModel.name": "Name of the model package.",
    "StreamModel.version": "Version to hold to. Empty: the one that is current on this machine.",
    "StreamModel.every": "Look at each N-th frame; the first model of a stream looks at every one.",
    "StreamModel.threshold": "Report findings from this score up. Unset: what the model says.",
    "StreamModel.min_area_px": "Leave out smaller findings, in pixels of the captured frame. "
    "Unset: what the model says.",
    "SourceBase.fps": "Frames per second. Recorded: the pace. Live: what is expected. Unset: what "
    "the source says of itself.",
    "SourceBase.pace": "`real`: at the rate of the recording. `fast`: as fast as frames are taken.",
    "SourceBase.spacing_mm": "Width and height of one pixel in millimetres, when you know them. "
    "It then holds for the whole frame, whatever the source says of its regions. Unset: what the "
    "source says, of each region; without either, nothing is measured in millimetres.",
    "SourceBase.roi": "Part of the picture for the models: x, y, width, height in pixels. Unset: "
    "what the source says, else the whole picture.",
    "SourceBase.reopen_max_s": "Longest pause between two tries to open a lost source.",
    "SourceBase.no_signal_after_s": "Without a frame for so long, the stream has no signal.",
    "SourceBase.frozen_after_s": "Equal frames for so long are a frozen picture. One other pixel "
    "makes another frame: a still picture with a running clock or a bit of noise is not seen.",
    "SourceBase.black_below": "A picture whose mean level (0 to 255) is below this is black. 0: "
    "never.",
    "DicomSource.path": "A DICOM file, or a folder that is watched for new ones, with those below. "
    "`sample:ultrasound` is the clip that comes with pydicom.",
    "DicomSource.loop": "Start again at the end.",
    "DicomSource.pattern": "Which files of the folder, as in `*.dcm`.",
    "DicomSource.expect_every_s": "A watched directory without a new picture for longer is a "
    "problem. Unset: it is idle, for as long as it likes.",
    "DicomSource.exam_key_file": "File with the secret key from which the pseudonym of an exam is "
    "made. Unset: made once and kept in `state_dir`.",
    "DicomSource.max_file_bytes": "Larger files are refused.",
    "VideoSource.where": "A capture device (`/dev/v4l/by-id/…`, which stays the same, or "
    "`/dev/video0`), a network stream (`rtsp://…`), a file, or a GStreamer pipeline.",
    "VideoSource.pipeline": "`where` is a GStreamer pipeline.",
    "VideoSource.loop": "Start again at the end of a file.",
    "VideoSource.width": "Width to ask the device for, in pixels; together with `height`.",
    "VideoSource.height": "Height to ask the device for, in pixels.",
    "VideoSource.password_file": "File whose first line replaces `{password}` in `where`.",
    "VideoSource.transport": "How RTSP travels. `udp` may lose parts of the picture.",
    "ImagesSource.path": "A folder of images, taken in the order of their names: PNG, JPEG, "
    "TIFF, BMP, GIF, WebP, JPEG 2000 and PPM, by what is in them. Every page of a file is a frame. "
    "Orientation is applied, what is transparent is black, colour profiles are ignored. Pictures "
    "deeper than 8 bits are shown by the bits that they use, the same for all: `levels` of "
    "`streams probe` says how; one that needs more is told as a bad frame, and then shown.",
    "ImagesSource.loop": "Start again at the end.",
    "ImagesSource.pattern": "Which files of the folder, as in `*.png`.",
    "ImagesSource.max_file_bytes": "Larger files are refused.",
    "PhantomSource.scene": "What to draw.",
    "PhantomSource.seed": "The same seed draws the same frames.",
    "PhantomSource.size": "Width and height in pixels.",
    "PhantomSource.fault": "Misbehave on purpose, for drills. Empty: never.",
    "PhantomSource.fault_after_frames": "Frames before the fault.",
    "PhantomSource.fault_frames": "Length of the fault in frames. 0: for ever.",
    "EngineConfig.isolation": "`process`: inference runs in a process of its own, whose crash the "
    "agent survives. `thread`: inside the agent, for small machines and tests.",
    "EngineConfig.backend": "What runs the models. `auto` and `onnx`: ONNX Runtime on the CPU. "
    "`tensorrt` is refused: it is not in this version.",
    "EngineConfig.lanes": "Inferences at the same time. 0: one per core that it gets (affinity, "
    "cgroup quota) but one.",
    "EngineConfig.threads_per_run": "Processor threads of one inference.",
    "EngineConfig.realtime": "Ask the system for real-time priority; runs without where refused.",
    "EngineConfig.hang_s": "An inference that takes so long is ended together with its process.",
    "EngineConfig.start_timeout_s": "Longest start of the inference process.",
    "EngineConfig.start_together": "Hold every stream until each has its first frame.",
    "EngineConfig.stop_grace_s": "Time to finish at the end.",
    "EngineConfig.listeners": "Python functions that get each result at once, as "
    "`package.module:factory`.",
    "ModelsConfig.dirs": "Folders of `<name>/<version>/` packages, searched in this order.",
    "ModelsConfig.shipped": "Also search the demo models that come with the agent, last.",
    "SpoolConfig.limit_bytes": "Disk for results that wait. Two streams of 30 results a second "
    "fill 2 GB a day with boxes, 6 GB with contours. What does not fit pushes out the oldest of "
    "the least important.",
    "SpoolConfig.ballast_bytes": "Kept on the disk and given up when it is full, so that the agent "
    "can still make room.",
    "SpoolConfig.volatile_bytes": "Memory for results while there is no store on disk.",
    "UplinkConfig.enabled": "Send results on. false: they stay on this machine.",
    "UplinkConfig.host": "Name or address of the MQTT broker: that of EdgeCore on this machine, or "
    "another.",
    "UplinkConfig.port": "Port of the broker. Unset: 8883 with TLS, else 1883.",
    "UplinkConfig.tls": "Encrypt, and check who the broker is.",
    "UplinkConfig.ca_file": "Certificate of the authority that signed the broker's, PEM. Unset: "
    "those that the system trusts.",
    "UplinkConfig.cert_file": "Certificate of this machine, PEM, together with `key_file`. Read "
    "again for each connection, so that it can be renewed while the agent runs.",
    "UplinkConfig.key_file": "Private key of this machine, PEM, without a passphrase.",
    "UplinkConfig.username": "Name to log in with. Empty: none.",
    "UplinkConfig.password_file": "File whose first line is the password. Read again for each "
    "connection.",
    "UplinkConfig.hot_tier_keys": "File with the public keys of the hot tier (`hot-tier.pub`). "
    "With it nothing is deleted that was not acknowledged with one of them. Read again for each "
    "connection, and every 10 s.",
    "UplinkConfig.seal": "Encrypt what is sent for the hot tier alone; needs `hot_tier_keys`.",
    "UplinkConfig.sign": "Sign what is sent with the key of this machine, which is made once in "
    "`state_dir`; `edge-agent uplink key` prints the half to enrol at the hot tier.",
    "UplinkConfig.insecure": "Allow a broker on another machine without TLS: whoever can listen on "
    "the network reads the results.",
    "UplinkConfig.ns": "Kubernetes namespace of the device and of the Rule that takes the results.",
    "UplinkConfig.device": "Name of the device whose twin shows this agent. Empty: the "
    "node's name.",
    "UplinkConfig.kubeedge_node": "What KubeEdge calls this machine, as in `kubectl get nodes`, "
    "where that is not `node`: it may hold dots. The hot tier is told, and answers there. Empty: "
    "as `node`.",
    "UplinkConfig.client_id": "How the broker knows this agent; two with the same name throw each "
    "other out. Empty: `edge-agent-` and the node's name.",
    "UplinkConfig.keepalive_s": "A broker that is silent for one and a half times as long is gone.",
    "UplinkConfig.answer_s": "Time for the broker to answer, when connecting and afterwards.",
    "UplinkConfig.reconnect_max_s": "Longest pause between two tries to connect.",
    "UplinkConfig.publishes_per_s": "Messages per second at most. EdgeCore passes on 30 for the "
    "whole machine, the rest waits.",
    "UplinkConfig.backfill_bytes_per_s": "Bytes per second at most for what waited while there was "
    "no connection.",
    "UplinkConfig.drain_s": "At a stop, time to deliver what is on its way; the rest is kept.",
    "UplinkConfig.twin": "Keep the device twin up to date: health and versions.",
    "UplinkConfig.twin_every_s": "Shortest time between two updates of the twin.",
    "RolloutsConfig.enabled": "Take models and configuration from a repository. false: what is "
    "installed runs on.",
    "RolloutsConfig.repositories": "Base URLs of the repository, asked in this order.",
    "RolloutsConfig.ca_file": "Certificate of the authority that signed the repository's, PEM. "
    "Unset: those that the system trusts. What is installed is verified by signatures anyway.",
    "RolloutsConfig.root_file": "First root of the repository (`1.root.json`), as given at "
    "enrolment: whose signatures count. Later roots come by themselves, each signed by the one "
    "before.",
    "RolloutsConfig.usb_dir": "Folder where a stick with a copy of the repository is mounted; "
    "looked at by itself.",
    "RolloutsConfig.desired_file": "File whose change says that something new is wanted, as a "
    "mounted ConfigMap. It is a hint only: what is installed is what the repository has signed.",
    "RolloutsConfig.cohort": "Group of nodes that this one belongs to. Empty: none.",
    "RolloutsConfig.check_every_s": "Longest time between two looks at the repository, without any "
    "hint.",
    "RolloutsConfig.store_bytes": "Bound of all installed models and downloads together.",
    "RolloutsConfig.pace_bytes_per_s": "Bytes per second at most for downloads. 0: no bound.",
    "RolloutsConfig.shadow_frames": "Frames with a finding in the old or the new model that it "
    "takes to compare them, unless the package says how many.",
    "RolloutsConfig.shadow_s": "After so long without as many, the comparison is inconclusive.",
    "RolloutsConfig.shadow_every": "Compare on each N-th frame.",
    "RolloutsConfig.hold_s": "After so long without enough evidence, the candidate is given up for "
    "now.",
    "RolloutsConfig.observe_s": "How long a model that is only to be watched runs beside the live "
    "one.",
    "RolloutsConfig.probation_frames": "Frames that a new model has to answer before it may stay.",
    "RolloutsConfig.probation_s": "Time that it has to be live before it may stay.",
    "RolloutsConfig.inconclusive": "What becomes of a candidate that nothing speaks for or "
    "against. `hold`: it waits for evidence. `commit`: it takes over.",
    "RolloutsConfig.max_trials": "So many crashes of the inference process during its trials "
    "refuse a package for good; so many deaths of the agent or the machine let it rest.",
    "RolloutsConfig.window": 'Times of the day, local, for streams with `swap = "window"`, as '
    "`22:00-05:00`.",
    "RolloutsConfig.wait_s": "Longest wait for a moment to swap; then it is given up for now.",
    "RolloutsConfig.proof_s": "Longest time to build a model and run its golden samples.",
    "RolloutsConfig.proof_memory_bytes": "Memory of the process that does so, so that no model can "
    "take all there is. 0: by the size of the model, at least 1 GiB.",
    "RolloutsConfig.allow_unsigned_local": "Let an operator install a package from a file without "
    "signatures. It is written to the audit log and marked in every report.",
    "ConsoleConfig.http": "Open the port on this machine. false: only the control socket.",
    "ConsoleConfig.port": "Port on 127.0.0.1, for reading only. 0: any free one.",
    "ConsoleConfig.pixels": "Also show pictures on the port. They may identify a patient.",
    "ConsoleConfig.max_followers": "Viewers that follow results at the same time, by each of the "
    "two doors.",
    "SuperviseConfig.crashes": "So many crashes of one part within `window_s` are too many.",
    "SuperviseConfig.window_s": "See `crashes`.",
    "SuperviseConfig.grace_s": "Time for each part to finish at the end.",
    "LogConfig.format": "`auto`: for people on a terminal, else JSON.",
    "LogConfig.level": "The least severe lines to write.",
}


def words_of(kind: type[msgspec.Struct], field: str) -> str:
    """The words of a field, of the Struct itself or of one above it."""
    return next(
        (WORDS[key] for above in kind.__mro__ if (key := f"{above.__name__}.{field}") in WORDS), ""
    )

"""Every setting: its default, its unit, what it does. Change a value here for the whole fleet.

A file group_data/GROUP.py changes it for one group, host data in the inventory for one host; the last of these wins.
Secrets never stand here: name their source (`env:NAME` or `file:PATH` on this machine).
"""

# --- driver: the NVIDIA kernel module and its libraries -----------------------------------------------------------

# Install, pin and hold the driver; with False the driver that is there is only checked.
driver_manage = True
# Whose packages: NVIDIA's repository (the host builds the module), or Ubuntu's own (ready-built, signed); never both.
driver_source = "nvidia"
# Branch to follow ("580"); None keeps that of a working driver, and takes the best that the host can have elsewhere.
driver_branch = None
# Exact version; None keeps a working driver of the branch, and installs the newest known one elsewhere.
driver_version = None
# Repository to install from, without a final slash; None takes NVIDIA's own for the host's distribution.
driver_repository_url = None
# Fingerprint of the key that signs the repository; None takes the one known for NVIDIA's own.
driver_key_fingerprint = None
# Refuse to change a driver whose packages cannot be stored on the host first; with False that is a warning.
driver_require_rollback = False
# Reboot a host where nothing else makes the installed driver the loaded one; with False such a host is refused.
driver_reboot_allowed = True
# Longest wait for a host to come back from a reboot, in seconds (large servers test their memory for minutes).
driver_reboot_timeout_s = 1800
# Longest wait for the driver packages to download, build and install, in seconds.
driver_install_timeout_s = 3600

# --- gpu: what the inventory promises (a host that has something else is refused), and what GPUs are set to ---------

# Number of GPUs; None accepts any number but none.
gpu_count = None
# Part of the model's name, such as "H100"; None accepts any model.
gpu_model = None
# Power limit of each GPU in watts, one for all or by card, such as {"H100": 500}; None leaves it as it is.
gpu_power_limit_w = None
# Error correction of the GPUs' memory; another value takes a reboot. None leaves it as it is.
gpu_ecc = None
# Slices of the GPUs: "off", or profiles by card such as {"H200": ["3g.71gb", "3g.71gb"]}; None leaves MIG as it is.
gpu_mig = None

# --- engine: vLLM and the environment it runs in ------------------------------------------------------------------

# vLLM version to serve with.
engine_version = "0.32.0"
# Locked, hashed requirements of that version, a file relative to this checkout.
engine_requirements = "requirements/vllm-0.32.0.txt"
# Python of the environment; uv brings it when the host has none.
engine_python = "3.12"
# Environment variables for uv on the host, such as a mirror's address.
engine_uv_env = {}
# uv binary on this machine to copy to the hosts; None takes the one beside this Python.
engine_uv_path = None
# Packages of the distribution that vLLM needs to compile small kernels; None takes gcc and the C library's headers.
engine_host_packages = None
# Longest wait for the environment to download and build, in seconds.
engine_build_timeout_s = 3600
# Free disk that the environment needs before the download begins, in MiB.
engine_disk_mib = 25_000

# --- model: exactly one of model_path, model_hub_id and model_catalogue -------------------------------------------

# Name under which clients ask for the model. Required.
# model_name = "llama-3.1-8b"
# Directory on this machine, copied to the hosts and checked by checksum.
model_path = None
# Model on the hub, of the form "owner/name".
model_hub_id = None
# Id of a model in rackhand/catalog/models.yaml, which names the hub's model and its commit.
model_catalogue = None
# Commit of model_hub_id, all 40 digits.
model_revision = None
# Address of another hub, such as a mirror; None takes the public one.
model_hub_endpoint = None
# Source of the hub's token, "env:NAME" or "file:PATH" on this machine.
model_hub_token_from = None
# Longest wait for the weights to arrive on one host, in seconds.
model_transfer_timeout_s = 14_400

# --- serve: the vLLM servers of one host --------------------------------------------------------------------------

# Address to listen on; anything but loopback needs serve_api_key_from.
serve_host = "127.0.0.1"
# Port of the first server; the others take the next ones.
serve_port = 8000
# Number of servers on one host; "auto" takes as many as the model and the GPUs allow.
serve_instances = "auto"
# GPUs that one server spans; "auto" takes the fewest on which the model fits.
serve_tensor_parallel_size = "auto"
# Stages that the layers of one server are divided into; "auto" takes more than one only where nothing else fits.
serve_pipeline_parallel_size = "auto"
# Shares of each GPU's memory for servers that share it, such as [0.45, 0.45]; empty gives every server GPUs of its own.
serve_gpu_shares = []
# What the servers are tuned for; "balanced" is vLLM's defaults where the memory allows them.
serve_preset = "balanced"
# Let presets quantise 16-bit weights to fp8 when they are loaded (throughput, latency, cost); slightly less precise.
serve_allow_fp8 = False
# Let presets keep the KV cache in fp8 (throughput, long-context, cost); slightly less precise.
serve_allow_fp8_kv = False
# Longest context, in tokens; None takes the model's own, "auto" the longest up to it that fits.
serve_max_model_len = None
# Share of a GPU's memory that one server may take; None takes vLLM's 0.92, or what the preset says.
serve_gpu_memory_utilization = None
# Further vLLM options by their long names, such as {"max-num-seqs": 256}; they win over presets.
serve_options = {}
# Further environment variables of the server; no secrets.
serve_env = {}
# Source of the API key that clients must send, "env:NAME" or "file:PATH" on this machine.
serve_api_key_from = None
# Longest wait for running requests when a server stops, in seconds.
serve_shutdown_timeout_s = 60

# --- gate: the check that accepts a server ------------------------------------------------------------------------

# Longest wait for a server to become ready, in seconds; None computes it from the size of the model.
gate_start_timeout_s = None
# Longest wait for the answer to one request of the gate, in seconds.
gate_request_timeout_s = 60

# --- rollout: who changes when, and when everything stops -----------------------------------------------------------

# Hosts or groups that change first, all together as the first wave; empty takes the first hosts that change.
rollout_canary = []
# Sizes of the waves in hosts or percent of the run; the first is for a canary without a name, the last one repeats.
rollout_waves = [1, "25%"]
# Pause after a wave before the next one begins, in seconds; nothing is measured in it, it is time to look.
rollout_soak_s = 0
# Most hosts with servers out of service at the same time; None sets no limit but the size of the wave.
rollout_max_out = None
# Hosts that may fail, unreachable ones among them, before no further host begins; a failed canary always stops.
rollout_max_failures = 0
# Servers of one model that stay healthy, counted in this run; "auto" keeps one wherever another host has the model.
rollout_min_replicas = "auto"
# Servers of one host that change at the same time; a driver or another layout takes all of them.
rollout_instances_at_once = 1
# After a host accepted its new release: longest wait for this machine to confirm before it goes back, in seconds.
rollout_confirm_s = 120

# --- drain: taking a server out of service without losing a request -----------------------------------------------

# Longest wait for running requests to end before a server is stopped, in seconds.
drain_timeout_s = 600
# When requests still run after that: "stop" leaves the server as it is and fails the host, "proceed" cuts them off.
drain_on_timeout = "stop"

# --- lease: one run at a time --------------------------------------------------------------------------------------

# Time after which a lease that nobody renews may be taken over, in seconds; a run renews it three times as often.
lease_s = 300
# Take a lease that another run holds, with --data for one run; only when that run is surely dead.
lease_break = False

# --- release: what is kept on a host to go back to -----------------------------------------------------------------

# Releases to keep, the running one among them.
release_keep = 3

# --- router: HAProxy on the hosts of group `routers`, in front of all servers ---------------------------------------

# Address at which routers reach this GPU host; None takes ssh_hostname, or its name. Not used if serve_host is one.
router_address = None
# Port on which a GPU host tells routers whether its servers are ready or draining.
router_state_port = 9105
# Address on which a router takes requests.
router_bind = "0.0.0.0"
# Port on which a router takes requests.
router_port = 8080
# Address of a router's statistics and Prometheus metrics, which ask for no key.
router_stats_bind = "127.0.0.1"
# Port of a router's statistics and Prometheus metrics.
router_stats_port = 8404
# File on the router with certificate and key (PEM), brought there by you; None serves plain HTTP.
router_tls_certificate = None
# Source of the key that clients must send to a router, "env:NAME" or "file:PATH"; None asks for that of the servers.
router_api_key_from = None
# "leastconn" sends a request to the least busy server, "hash" keeps clients of a session on one server.
router_balance = "leastconn"
# Header that names a session, for "hash".
router_affinity_header = "x-session-id"
# Longest silence of a request at a router, in seconds; the wait for the first token is silence, too.
router_timeout_s = 900

# --- health: which findings about GPUs keep a host from serving; the codes are in docs/reference/errors.md ----------

# Severities ("info", "warning", "error", "fatal") and codes of findings that block.
health_block = ["fatal", "error"]
# Codes of findings that never block, such as "xid-79"; they are still told.
health_ignore = []
# Let DCGM run its test of level 1, some seconds, where it is installed.
health_dcgm = True

# --- preflight and report -----------------------------------------------------------------------------------------

# When one host is refused: "stop" the whole run before any change, or "skip" that host.
preflight_on_refusal = "stop"
# The same for a host whose GPUs ail or are missing, which says nothing about what is deployed.
preflight_on_unhealthy = "skip"
# Directory for the JSON reports, relative to this checkout.
report_dir = "reports"

# --- pyinfra's own: nothing may wait for ever on a host that died -------------------------------------------------

# Longest silence of one command, in seconds; the long steps above bring their own.
_timeout = 900
# Longest wait for a channel, for the banner and for authentication, in seconds (unset, a dead host holds a run 3600 s).
ssh_paramiko_connect_kwargs = {"channel_timeout": 60, "banner_timeout": 30, "auth_timeout": 30}
# Further attempts to connect (many hosts behind one jump host meet its limit of new connections).
ssh_connect_retries = 2

# --- metrics: what the GPUs measure, for Prometheus ---------------------------------------------------------------

# "textfile" is our page for a node exporter, "dcgm" NVIDIA's exporter; "auto" that one where it is there, else ours.
metrics_hardware = "auto"
# Directory from which a node exporter collects text files; our page is rackhand_gpu.prom in it.
metrics_directory = "/var/lib/prometheus/node-exporter"

/* libnvidia-ml.so.1 of a practice host: memory, links, MIG, power, health, processes. */
#include "nvml.h"

#include <stdio.h>
#include <string.h>

#define MIB (1024ULL * 1024ULL)
#define MEMORY_V2 0x02000028u
#define SRAM_ERRORS_V1 0x01000068u

static unsigned used_mib(const struct gpu *gpu)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < gpu->process_count; i++)
        sum += gpu->processes[i].used_mib;
    return sum;
}

static unsigned limit_mw(const struct gpu *gpu) { return gpu->power_limit_mw ? gpu->power_limit_mw : gpu->power_mw; }

static int read_memory(nvmlDevice_t handle, struct memory_v2 *memory)
{
    struct gpu *gpu;
    struct slice *slice = as_slice(handle);
    int refused = slice ? SUCCESS : find_gpu(handle, &gpu);
    if (refused)
        return refused;
    memory->total = (slice ? slice->memory_mib : gpu->memory_mib) * MIB;
    memory->reserved = (slice ? 0 : gpu->reserved_mib) * MIB;
    memory->used = (slice ? 0 : used_mib(gpu)) * MIB;
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(nvmlDevice_t handle, struct memory *answer)
{
    struct memory_v2 memory;
    int refused = read_memory(handle, &memory);
    if (refused)
        return refused;
    answer->total = memory.total;
    answer->free = memory.free;
    answer->used = memory.used + memory.reserved; /* v1 counts what the driver reserves as used */
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t handle, struct memory_v2 *answer)
{
    if (answer->version != MEMORY_V2)
        return ARGUMENT_VERSION_MISMATCH;
    return read_memory(handle, answer);
}

int nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t handle, struct memory *answer)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused)
        return refused;
    answer->total = answer->free = 256 * MIB;
    answer->used = 0;
    return SUCCESS;
}

#define GPU_NUMBER(function, supported, expression)                                                                    \
    int function(nvmlDevice_t handle, unsigned *value)                                                                 \
    {                                                                                                                  \
        struct gpu *gpu;                                                                                               \
        int refused = find_gpu(handle, &gpu);                                                                          \
        if (refused)                                                                                                   \
            return refused;                                                                                            \
        return (supported) ? answer_number(value, expression) : NOT_SUPPORTED;                                         \
    }

GPU_NUMBER(nvmlDeviceGetPersistenceMode, 1, (unsigned)persistence_is_on())
GPU_NUMBER(nvmlDeviceGetComputeMode, 1, 0)
GPU_NUMBER(nvmlDeviceGetPowerManagementLimit, 1, limit_mw(gpu))
GPU_NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, 1, gpu->power_mw)
GPU_NUMBER(nvmlDeviceGetEnforcedPowerLimit, 1, limit_mw(gpu))
GPU_NUMBER(nvmlDeviceGetPowerUsage, 1, gpu->power_mw / 10)
GPU_NUMBER(nvmlDeviceGetMaxMigDeviceCount, gpu->mig_max, mig_is_on(gpu) ? gpu->mig_max : 0)
/* Exactly one of row remapping and page retirement works on a card that has ECC. */
GPU_NUMBER(nvmlDeviceGetRetiredPagesPendingStatus, gpu->ecc && !gpu->row_remapping, gpu->retired_pending)

int nvmlDeviceGetClockInfo(nvmlDevice_t handle, unsigned type, unsigned *mhz)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    return refused ? refused : answer_number(mhz, type == MEMORY_CLOCK ? 2619 : 1980);
}

int nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t handle, unsigned long long *millijoules)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (!refused)
        *millijoules = 1000ull * gpu->power_mw;
    return refused;
}

int nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t handle, unsigned *least, unsigned *most)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused)
        return refused;
    *least = gpu->power_min_mw;
    *most = gpu->power_max_mw;
    return SUCCESS;
}

int nvmlDeviceGetEccMode(nvmlDevice_t handle, unsigned *current, unsigned *pending)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused || !gpu->ecc)
        return refused ? refused : NOT_SUPPORTED;
    *current = !gpu->ecc_off;
    *pending = !gpu->ecc_off_pending;
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(nvmlDevice_t handle, unsigned error, unsigned counter, unsigned long long *count)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    (void)counter;
    if (refused || !gpu->ecc)
        return refused ? refused : NOT_SUPPORTED;
    *count = error ? gpu->ecc_uncorrected : 0; /* corrected, uncorrected */
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(nvmlDevice_t handle, unsigned *correctable, unsigned *uncorrectable, unsigned *pending, unsigned *failed)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused || !gpu->row_remapping)
        return refused ? refused : NOT_SUPPORTED;
    *correctable = 0;
    *pending = gpu->remap_pending;
    *failed = gpu->remap_failed;
    *uncorrectable = *pending || *failed;
    return SUCCESS;
}

int nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t handle, struct sram_errors *status)
{
    struct gpu *gpu;
    unsigned version = status->version;
    int refused = find_gpu(handle, &gpu);
    if (refused || !gpu->row_remapping) /* counted since the cards that remap rows */
        return refused ? refused : NOT_SUPPORTED;
    if (version != SRAM_ERRORS_V1)
        return ARGUMENT_VERSION_MISMATCH;
    memset(status, 0, sizeof *status);
    status->version = version;
    status->exceeded = gpu->sram_exceeded;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(nvmlDevice_t handle, unsigned sensor, unsigned *celsius)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused)
        return refused;
    return sensor ? INVALID_ARGUMENT : answer_number(celsius, 34);
}

int nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t handle, unsigned long long *reasons)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (!refused)
        *reasons = gpu->clock_events ? gpu->clock_events : 1; /* GPU idle */
    return refused;
}

int nvmlDeviceGetUtilizationRates(nvmlDevice_t handle, struct utilization *rates)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (!refused)
        rates->gpu = rates->memory = 0;
    return refused;
}

int nvmlDeviceGetFieldValues(nvmlDevice_t handle, int count, struct field_value *values)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    for (int i = 0; !refused && i < count; i++) {
        values[i].type = 1; /* unsigned int */
        values[i].value.u64 = 0;
        values[i].result = values[i].field == 230 || values[i].field == 91 ? SUCCESS : NOT_SUPPORTED;
        if (values[i].field == 91) /* NVML_FI_DEV_NVLINK_LINK_COUNT; 230 is the recovery action, 0: none */
            values[i].value.u32 = gpu->nvlinks_active;
        else if (values[i].field == 230)
            values[i].value.u32 = gpu->recovery;
    }
    return refused;
}

static int processes(nvmlDevice_t handle, unsigned graphics, unsigned *count, struct process_info *answer)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    unsigned room = *count, found = 0;
    if (refused)
        return as_slice(handle) ? (*count = 0, SUCCESS) : refused;
    for (unsigned i = 0; i < gpu->process_count; i++) {
        if (gpu->processes[i].graphics != graphics)
            continue;
        if (answer && found < room) {
            struct process_info info = {gpu->processes[i].pid, gpu->processes[i].used_mib * MIB, ~0u, ~0u};
            answer[found] = info;
        }
        found++;
    }
    *count = found;
    return found > (answer ? room : 0) ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t handle, unsigned *count, struct process_info *answer)
{
    return processes(handle, 0, count, answer);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t handle, unsigned *count, struct process_info *answer)
{
    return processes(handle, 1, count, answer);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(nvmlDevice_t handle, unsigned *count, struct process_info *answer)
{
    return processes(handle, 2, count, answer);
}

int nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return NOT_FOUND;
    size_t got = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[got] = 0; /* the first word ends at its own zero */
    return answer_text(name, length, text);
}

/* libnvidia-ml.so.1 of a practice host: versions, enumeration, identity.
 * Signatures and structures: nvml.h as mirrored by nvidia-ml-py. A call that is not here is a legal "function not found". */
#include "nvml.h"

#include <stdio.h>
#include <string.h>

static int users;

int answer_text(char *target, unsigned length, const char *text)
{
    if (!target)
        return INVALID_ARGUMENT;
    if (strlen(text) + 1 > length)
        return INSUFFICIENT_SIZE;
    strcpy(target, text);
    return SUCCESS;
}

int answer_number(unsigned *target, unsigned value)
{
    if (!target)
        return INVALID_ARGUMENT;
    *target = value;
    return SUCCESS;
}

static int absence(const struct gpu *gpu)
{
    return gpu->lost ? GPU_IS_LOST : gpu->reset_required ? RESET_REQUIRED : SUCCESS;
}

int find_gpu(nvmlDevice_t handle, struct gpu **gpu)
{
    *gpu = handle;
    if (!users)
        return UNINITIALIZED;
    if (*gpu < fleet.gpus || *gpu >= fleet.gpus + MAX_GPUS || (*gpu)->kind != KIND_GPU)
        return INVALID_ARGUMENT;
    return absence(*gpu);
}

struct slice *as_slice(nvmlDevice_t handle)
{
    char *start = (char *)fleet.gpus, *here = handle;
    struct slice *slice = handle;
    return here >= start && here < start + sizeof fleet.gpus && slice->kind == KIND_SLICE ? slice : NULL;
}

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    fleet_read();
    if (fleet.init_error)
        return (int)fleet.init_error;
    if (!fleet.loaded_version[0])
        return DRIVER_NOT_LOADED;
    if (strcmp(fleet.loaded_version, DRIVER_VERSION))
        return LIB_RM_VERSION_MISMATCH;
    users++;
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void)
{
    if (!users)
        return UNINITIALIZED;
    users--;
    return SUCCESS;
}

const char *nvmlErrorString(int code)
{
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case LIBRARY_NOT_FOUND: return "NVML Shared Library Not Found";
    case FUNCTION_NOT_FOUND: return "Function Not Found";
    case GPU_IS_LOST: return "GPU is lost";
    case RESET_REQUIRED: return "GPU requires reset";
    case IN_USE: return "In use by another client";
    case INSUFFICIENT_RESOURCES: return "Insufficient Resources";
    case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case ARGUMENT_VERSION_MISMATCH: return "Argument Version Mismatch";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) { return answer_text(version, length, DRIVER_VERSION); }

int nvmlSystemGetNVMLVersion(char *version, unsigned length)
{
    char text[TEXT];
    snprintf(text, sizeof text, "%d.%s", CUDA_VERSION / 1000, DRIVER_VERSION);
    return answer_text(version, length, text);
}

int nvmlSystemGetCudaDriverVersion(int *version)
{
    *version = CUDA_VERSION;
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

int nvmlDeviceGetCount_v2(unsigned *count)
{
    if (!users)
        return UNINITIALIZED;
    fleet_read();
    return answer_number(count, fleet.count);
}

static int hand_out(struct gpu *gpu, nvmlDevice_t *handle)
{
    *handle = gpu;
    return absence(gpu);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *handle)
{
    if (!users)
        return UNINITIALIZED;
    return index < fleet.count ? hand_out(&fleet.gpus[index], handle) : INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *handle)
{
    if (!users)
        return UNINITIALIZED;
    for (unsigned i = 0; i < fleet.count; i++) {
        struct gpu *gpu = &fleet.gpus[i];
        if (!strcmp(gpu->uuid, uuid))
            return hand_out(gpu, handle);
        for (unsigned j = 0; j < gpu->slice_count; j++)
            if (!strcmp(gpu->slices[j].uuid, uuid)) {
                *handle = &gpu->slices[j];
                return SUCCESS;
            }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *handle)
{
    unsigned domain, bus, device;
    if (!users)
        return UNINITIALIZED;
    if (sscanf(bus_id, "%x:%x:%x", &domain, &bus, &device) != 3)
        return INVALID_ARGUMENT;
    for (unsigned i = 0; i < fleet.count; i++) {
        struct gpu *gpu = &fleet.gpus[i];
        if (gpu->domain == domain && gpu->bus == bus && gpu->device == device)
            return hand_out(gpu, handle);
    }
    return NOT_FOUND;
}

int nvmlDeviceGetName(nvmlDevice_t handle, char *name, unsigned length)
{
    struct gpu *gpu;
    struct slice *slice = as_slice(handle);
    int refused = slice ? SUCCESS : find_gpu(handle, &gpu);
    return refused ? refused : answer_text(name, length, slice ? slice->name : gpu->name);
}

int nvmlDeviceGetUUID(nvmlDevice_t handle, char *uuid, unsigned length)
{
    struct gpu *gpu;
    struct slice *slice = as_slice(handle);
    int refused = slice ? SUCCESS : find_gpu(handle, &gpu);
    return refused ? refused : answer_text(uuid, length, slice ? slice->uuid : gpu->uuid);
}

int nvmlDeviceGetSerial(nvmlDevice_t handle, char *serial, unsigned length)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused)
        return refused;
    return gpu->serial[0] ? answer_text(serial, length, gpu->serial) : NOT_SUPPORTED;
}

int nvmlDeviceGetVbiosVersion(nvmlDevice_t handle, char *version, unsigned length)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    return refused ? refused : answer_text(version, length, "96.00.74.00.01");
}

int nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t handle, char *version)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    return refused ? refused : answer_text(version, 64, DRIVER_VERSION);
}

#define GPU_NUMBER(function, expression)                                                                               \
    int function(nvmlDevice_t handle, unsigned *value)                                                                 \
    {                                                                                                                  \
        struct gpu *gpu;                                                                                               \
        int refused = find_gpu(handle, &gpu);                                                                          \
        return refused ? refused : answer_number(value, expression);                                                   \
    }

GPU_NUMBER(nvmlDeviceGetIndex, gpu->index)
GPU_NUMBER(nvmlDeviceGetMinorNumber, gpu->index)
GPU_NUMBER(nvmlDeviceGetModuleId, gpu->index + 1)
GPU_NUMBER(nvmlDeviceGetBrand, gpu->brand)
GPU_NUMBER(nvmlDeviceGetArchitecture, gpu->architecture)
GPU_NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, gpu->pcie_gen)
GPU_NUMBER(nvmlDeviceGetGpuMaxPcieLinkGeneration, gpu->pcie_gen)
GPU_NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, gpu->pcie_gen)
GPU_NUMBER(nvmlDeviceGetMaxPcieLinkWidth, gpu->pcie_max_width)
GPU_NUMBER(nvmlDeviceGetCurrPcieLinkWidth, gpu->pcie_width)
GPU_NUMBER(nvmlDeviceGetPcieReplayCounter, 0)

int nvmlDeviceGetCudaComputeCapability(nvmlDevice_t handle, int *major, int *minor)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused)
        return refused;
    *major = (int)gpu->cc_major;
    *minor = (int)gpu->cc_minor;
    return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(nvmlDevice_t handle, struct pci_info *pci)
{
    struct gpu *gpu;
    int refused = find_gpu(handle, &gpu);
    if (refused)
        return refused;
    struct place place = {gpu->domain, gpu->bus, gpu->device};
    answer_bus_id(pci, &place);
    pci->pci_device_id = gpu->pci_device_id;
    pci->pci_subsystem_id = gpu->pci_subsystem_id;
    return SUCCESS;
}

/* Stands for nvidia.ko: an object that modinfo can read. It cannot be loaded. */
#define MODINFO(name, text) static const char name[] __attribute__((section(".modinfo"), used)) = text
MODINFO(version, "version=" DRIVER_VERSION);
MODINFO(license, "license=Dual MIT/GPL");
MODINFO(alias, "alias=pci:v000010DEd*sv*sd*bc03sc02i00*");
MODINFO(name, "name=nvidia");

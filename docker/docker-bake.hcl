// All images for all architectures:
//   REGISTRY=registry.example.com/asya TAG=0.1.0 docker buildx bake --file docker/docker-bake.hcl --push
variable "REGISTRY" { default = "" }
variable "TAG" { default = "0.1.0" }
variable "PLATFORMS" { default = "linux/amd64,linux/arm64" }
variable "RUST_IMAGE" { default = "docker.io/library/rust:1.95-alpine" }
variable "XX_IMAGE" { default = "docker.io/tonistiigi/xx:1.6.1" }

group "default" {
  targets = ["image"]
}

target "image" {
  name       = program
  matrix     = { program = ["asya", "asya-crew", "asya-gateway", "asya-operator", "asya-sidecar"] }
  context    = "."
  dockerfile = "docker/Dockerfile"
  target     = program
  platforms  = split(",", PLATFORMS)
  tags       = ["${REGISTRY == "" ? "" : "${REGISTRY}/"}${program}:${TAG}"]
  args = {
    RUST_IMAGE = RUST_IMAGE
    XX_IMAGE   = XX_IMAGE
  }
}

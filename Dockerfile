# The command line, the service and the worker in one image: see "In a container" in the README.
FROM node:24-slim AS build
WORKDIR /build
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts
COPY tsconfig.json README.md LICENSE CHANGELOG.md ./
COPY src ./src
RUN npm run build && npm pack --ignore-scripts && mv retention-*.tgz retention.tgz

FROM node:24-slim
# What targets and queues need: "@aws-sdk/client-s3 google-auth-library age-encryption @duckdb/node-api pg-boss", as far as you use them.
ARG PACKAGES="@aws-sdk/client-s3"
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /build/retention.tgz /tmp/
# A config written in TypeScript imports "retention" from the folder that it lies in.
RUN echo '{ "private": true, "type": "module" }' > package.json \
  && npm install --no-audit --no-fund /tmp/retention.tgz $PACKAGES \
  && npm cache clean --force && rm /tmp/retention.tgz
USER node
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.PORT || 8080) + '/healthz').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/app/node_modules/retention/dist/bin.js"]
CMD ["serve", "--host", "0.0.0.0"]
